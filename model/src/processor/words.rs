//! Numbers as English words, like the num2words package spells them.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// A number in words: "one thousand, two hundred and thirty-four".
pub fn in_words(n: usize) -> String {
    for (unit, name) in [(1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand")] {
        if n >= unit {
            let head = format!("{} {name}", in_words(n / unit));
            return match n % unit {
                0 => head,
                rest @ 1..=99 => format!("{head} and {}", in_words(rest)),
                rest => format!("{head}, {}", in_words(rest)),
            };
        }
    }
    match n {
        0..=19 => SMALL[n].into(),
        20..=99 if n.is_multiple_of(10) => TENS[n / 10 - 2].into(),
        20..=99 => format!("{}-{}", TENS[n / 10 - 2], SMALL[n % 10]),
        _ if n.is_multiple_of(100) => format!("{} hundred", SMALL[n / 100]),
        _ => format!("{} hundred and {}", SMALL[n / 100], in_words(n % 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn numbers_are_spelled_like_num2words() {
        for (n, words) in [
            (0, "zero"),
            (8, "eight"),
            (16, "sixteen"),
            (20, "twenty"),
            (64, "sixty-four"),
            (100, "one hundred"),
            (101, "one hundred and one"),
            (768, "seven hundred and sixty-eight"),
            (1001, "one thousand and one"),
            (1100, "one thousand, one hundred"),
            (1234, "one thousand, two hundred and thirty-four"),
            (123456, "one hundred and twenty-three thousand, four hundred and fifty-six"),
            (1000001, "one million and one"),
        ] {
            assert_eq!(in_words(n), words);
        }
    }
}
