//! Tokens as the Penn Treebank has them, in lower case and without punctuation: what the COCO evaluation compares.
//!
//! The COCO code runs Stanford's tokenizer (CoreNLP 3.4.1) and takes punctuation away. The rules here are found by asking it; they
//! hold for captions: words, contractions, abbreviations, numbers, quotes and brackets.

/// Tokens that the COCO code takes away. Brackets are not among them: it looks for them in upper case, after all was put in
/// lower case.
const PUNCTUATION: [&str; 14] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", ""];

/// Abbreviations that keep their stop.
const ABBREVIATIONS: &str = "adj adm adv al ala alex apr ariz assn assoc atty aug ave bhd blvd bros calif capt cf cie cmdr co col colo \
    comdr conn corp cos cpl ct dak dec dept det dr drs ens esq est etc ext feb fla fri ft ga gen gov hon inc ind intl jan jos jr jul \
    jun kan ky lt ltd maj mar md messrs mfg mich minn mme mo mon mr mrs ms mt mtg natl neb nev nov oct okla penn pfc ph plc pres prof \
    pte pty pvt rd rep rev rt sen sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va vs vt wed wis wm wyo";
/// Those that keep it where they begin with a capital letter.
const CAPITALS: &str = "ark az del ill la mass miss ore pa tex wash";
/// Those that keep it before a number.
const BEFORE_NUMBERS: &str = "art ca fig figs no nos op pp";

/// Words that a sentence begins with after a letter and a stop.
const STARTERS: &str = "The A An In At It He She They We You There This That These Her Their Our But So If When While As One Some \
    Many What Other Such After Since Then Now Here However Once";

/// Words that are cut in two, and the length of the first part.
const CUT: [(&str, usize); 7] =
    [("cannot", 3), ("gonna", 3), ("gotta", 3), ("wanna", 3), ("lemme", 3), ("gimme", 3), ("'tis", 2)];

/// The tokens of a caption.
pub fn tokens(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().map(plain).collect();
    let mut reader = Reader { letters: &letters, at: 0, tokens: Vec::new(), open: false };
    while reader.at < letters.len() {
        reader.next();
    }
    reader.tokens.retain(|token| !PUNCTUATION.contains(&token.as_str()));
    reader.tokens
}

/// Typographic quotes and dashes as typewriters have them.
fn plain(letter: char) -> char {
    match letter {
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        letter => letter,
    }
}

struct Reader<'l> {
    letters: &'l [char],
    at: usize,
    tokens: Vec<String>,
    /// A double quote is open.
    open: bool,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.letters.get(self.at + ahead).copied().unwrap_or(' ')
    }

    /// The letters up to `end` as a token.
    fn take(&mut self, end: usize) {
        let text: String = self.letters[self.at..end].iter().collect();
        self.put(&text);
        self.at = end;
    }

    fn put(&mut self, text: &str) {
        self.tokens.push(text.to_lowercase());
    }

    fn next(&mut self) {
        let letter = self.peek(0);
        let run = |same: &dyn Fn(char) -> bool| {
            self.at + self.letters[self.at..].iter().take_while(|letter| same(**letter)).count()
        };
        match letter {
            letter if letter.is_whitespace() => self.at += 1,
            letter if is_part(letter) => self.word(),
            '.' if self.peek(1).is_ascii_digit() => self.word(),
            '+' | '-' if self.peek(1).is_ascii_digit() && !self.is_inside() => self.word(),
            '#' | '@' if self.peek(1).is_alphabetic() => self.word(),
            '\'' => self.apostrophe(),
            '"' => {
                self.put(if self.open { "''" } else { "``" });
                self.open = !self.open;
                self.at += 1;
            }
            '.' => {
                let end = run(&|letter| letter == '.');
                let stop = if end - self.at == 1 { "." } else { "..." };
                self.put(stop);
                self.at = end;
            }
            '\u{2026}' => {
                self.put("...");
                self.at += 1;
            }
            '\u{2013}' | '\u{2014}' => {
                self.put("--");
                self.at += 1;
            }
            '-' => self.take(run(&|letter| letter == '-')),
            '!' | '?' => self.take(run(&|letter| matches!(letter, '!' | '?'))),
            '(' | ')' | '[' | ']' | '{' | '}' => {
                let (shape, side) = match letter {
                    '(' | ')' => ('r', if letter == '(' { 'l' } else { 'r' }),
                    '[' | ']' => ('s', if letter == '[' { 'l' } else { 'r' }),
                    _ => ('c', if letter == '{' { 'l' } else { 'r' }),
                };
                self.put(&format!("-{side}{shape}b-"));
                self.at += 1;
            }
            '<' if self.tag().is_some() => self.take(self.tag().unwrap_or(self.at + 1)),
            _ => self.take(self.at + 1),
        }
    }

    /// Where a tag such as `<b>` that begins here ends.
    fn tag(&self) -> Option<usize> {
        let rest = &self.letters[self.at + 1..];
        let name = rest.iter().take_while(|letter| letter.is_alphanumeric() || **letter == '/').count();
        (name > 0 && rest.get(name) == Some(&'>')).then_some(self.at + name + 2)
    }

    /// Whether a letter stands before this place.
    fn is_inside(&self) -> bool {
        self.at.checked_sub(1).is_some_and(|before| self.letters[before].is_alphanumeric())
    }

    fn apostrophe(&mut self) {
        let rest: String = self.letters[self.at..].iter().take(4).collect::<String>().to_lowercase();
        let follows =
            |len: usize| self.letters.get(self.at + len).is_some_and(|letter| letter.is_alphanumeric());
        if self.is_inside()
            && let Some(len) = ["'ll", "'re", "'ve", "'s", "'m", "'d"]
                .iter()
                .find(|end| rest.starts_with(**end))
                .map(|end| end.len())
            && !follows(len)
        {
            self.take(self.at + len);
        } else if rest.starts_with("'tis") && !follows(4) {
            self.take(self.at + 2);
        } else if rest.starts_with("'n'") {
            self.take(self.at + 3);
        } else if self.peek(1).is_ascii_digit() && self.peek(2).is_ascii_digit() && !self.is_inside() {
            // A decade: '90s
            let end =
                self.letters[self.at + 1..].iter().take_while(|letter| letter.is_alphanumeric()).count();
            self.take(self.at + 1 + end);
        } else if self.peek(1) == '\'' {
            self.put("''");
            self.at += 2;
        } else {
            self.take(self.at + 1);
        }
    }

    /// A word or a number, with its stop where it is an abbreviation.
    fn word(&mut self) {
        let start = self.at;
        let mut end = start + 1;
        let is =
            |at: usize, test: &dyn Fn(char) -> bool| self.letters.get(at).is_some_and(|letter| test(*letter));
        let digit = |letter: char| letter.is_ascii_digit();
        let alphabetic = |letter: char| letter.is_alphabetic();
        while let Some(letter) = self.letters.get(end).copied() {
            let (before, after) = (end - 1, end + 1);
            let joins = match letter {
                letter if is_part(letter) => true,
                '-' | '/' => is(before, &is_part) && is(after, &is_part),
                '.' | ':' if is(before, &digit) && is(after, &digit) => true,
                // Thousands, and lists of digits.
                ',' => is(before, &digit) && is(after, &digit),
                '&' => is(before, &alphabetic) && is(after, &alphabetic),
                // Addresses and what is written like them.
                '.' | '@' => is(before, &is_part) && is(after, &alphabetic),
                '\'' => self.belongs(start, end),
                _ => false,
            };
            if !joins {
                break;
            }
            end += 1;
        }
        let text: String = self.letters[start..end].iter().collect();
        let lower = text.to_lowercase();
        if let Some((_, first)) = CUT.iter().find(|(word, _)| *word == lower) {
            self.take(start + first);
            return self.take(end);
        }
        // n't is a word.
        if is(end, &|letter| letter == '\'') && lower.ends_with('n') && end - start > 1 {
            let is_not = is(end + 1, &|letter| letter.eq_ignore_ascii_case(&'t'))
                && !is(end + 2, &char::is_alphanumeric);
            if is_not {
                self.take(end - 1);
                return self.take(end + 2);
            }
        }
        if is(end, &|letter| letter == '.') && self.keeps_stop(&text, &lower, end) {
            end += 1;
        }
        self.take(end);
    }

    /// Whether an apostrophe at a place belongs to the word before it, as in O'Neil, o'clock and y'all.
    fn belongs(&self, start: usize, at: usize) -> bool {
        let next = |ahead: usize| self.letters.get(at + ahead).is_some_and(|letter| letter.is_alphabetic());
        at == start + 1
            && matches!(self.letters[start].to_ascii_lowercase(), 'o' | 'd' | 'l')
            && next(1)
            && next(2)
    }

    /// Whether a sentence begins at a place, behind spaces.
    fn starts(&self, at: usize) -> bool {
        let rest = self.letters[at..].iter().skip_while(|letter| letter.is_whitespace());
        let word: String = rest.take_while(|letter| letter.is_alphanumeric()).collect();
        STARTERS.split_whitespace().any(|known| known == word)
    }

    fn keeps_stop(&self, text: &str, lower: &str, stop: usize) -> bool {
        let among = |list: &str| list.split_whitespace().any(|known| known == lower);
        let next = self.letters[stop + 1..].iter().find(|letter| !letter.is_whitespace());
        let is_single = text.chars().count() == 1 && text.chars().all(char::is_alphabetic);
        let is_acronym = text.contains('.')
            && text.split('.').all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic));
        among(ABBREVIATIONS)
            || is_acronym
            || text.chars().next().is_some_and(char::is_uppercase) && among(CAPITALS)
            || next.is_some_and(char::is_ascii_digit) && among(BEFORE_NUMBERS)
            || is_single && !self.starts(stop + 1)
    }
}

/// Letters of words.
fn is_part(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}
