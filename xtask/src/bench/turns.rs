//! What a row came to: the times of both sides, as one document, and as a line of a table.

use serde_json::{Value, json};

use super::settings::{Bar, Row};

/// Times of one row on one side: each turn's median, and its rate.
#[derive(Default)]
pub struct Turns {
    pub median_ms: Vec<f64>,
    first_call_ms: Vec<f64>,
    pub rate: Vec<f64>,
    unit: String,
}

impl Turns {
    /// Adds an answer in the shape of `percept bench --json`, whose number `time` counts.
    pub fn add(&mut self, answer: &Value, time: &str) -> Result<(), String> {
        let answer = answer.get(0).unwrap_or(answer);
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        let number = |name: &str| answer[name].as_f64().filter(|value| value.is_finite() && *value > 0.0);
        let whole = number("median_ms").ok_or("no positive `median_ms`")?;
        let median = number(time).ok_or_else(|| format!("no positive `{time}`"))?;
        self.median_ms.push(median);
        self.rate.push(number("rate").ok_or("no positive `rate`")? * whole / median);
        // Percept compiles ahead of its first call; a peer compiles within it.
        let compile = number("compile_ms").unwrap_or(0.0);
        self.first_call_ms.extend(number("first_call_ms").map(|first| first + compile));
        self.unit = answer["rate_unit"].as_str().ok_or("no `rate_unit`")?.to_owned();
        Ok(())
    }
}

/// What a row came to, with `bandwidth` in the rates' unit. `first_call_ms` has compilation and tuning in it.
pub fn document(row: &Row, ours: &Turns, theirs: &Turns, bandwidth: Option<f64>) -> Value {
    let peer_ratio = median(&theirs.median_ms).zip(median(&ours.median_ms)).map(|(peer, ours)| peer / ours);
    let share = median(&ours.rate).zip(bandwidth).map(|(rate, most)| rate / most);
    let (ratio, bar) = match row.bar {
        Bar::Ratio(bar) => (peer_ratio, Some(bar)),
        Bar::Bandwidth(bar) => (share, Some(bar)),
        Bar::None => (peer_ratio, None),
    };
    let of = match (row.bar, row.peer) {
        (Bar::Bandwidth(_), _) => Some("bandwidth"),
        (_, Some(peer)) if !theirs.median_ms.is_empty() => Some(peer.name()),
        _ => None,
    };
    json!({
        "row": row.setting.name(), "device": row.device, "ms": ours.median_ms, "median_ms": median(&ours.median_ms),
        "rate": median(&ours.rate), "rate_unit": ours.unit, "of": of, "peer_ms": theirs.median_ms,
        "peer_median_ms": median(&theirs.median_ms), "ratio": ratio, "bar": bar,
        "reached": ratio.zip(bar).map(|(ratio, bar)| ratio >= bar),
        "first_call_ms": ours.first_call_ms.first(), "peer_first_call_ms": theirs.first_call_ms.first(),
    })
}

/// The table's first line.
pub fn heading() -> Vec<String> {
    ["row", "device", "ms", "rate", "peer", "ms", "ratio", "bar", "", "first call", "peer's"]
        .map(str::to_owned)
        .into()
}

/// A document as a line of the table.
pub fn cells(document: &Value) -> Vec<String> {
    let number = |name: &str, digits: usize| match document[name].as_f64() {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let word = |name: &str| document[name].as_str().unwrap_or("-").to_owned();
    let verdict = match (document["reached"].as_bool(), document["noisy"].as_bool()) {
        (_, Some(true)) => "noisy",
        (Some(true), _) => "reached",
        (Some(false), _) => "missed",
        (None, _) => "-",
    };
    vec![
        word("row"),
        word("device"),
        number("median_ms", 3),
        format!("{} {}", number("rate", 1), word("rate_unit")),
        word("of"),
        number("peer_median_ms", 3),
        number("ratio", 2),
        number("bar", 2),
        verdict.to_owned(),
        number("first_call_ms", 0),
        number("peer_first_call_ms", 0),
    ]
}

/// The middle value, or the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let high = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(high) } else { Some((sorted[middle - 1] + high) / 2.0) }
}

/// Lines of equally wide columns: words to the left, numbers to the right.
pub fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let is_number = cell.starts_with(|first: char| first.is_ascii_digit());
            if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::settings::rows;
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn an_answer_is_read_alone_or_as_the_only_item_of_a_list() {
        let answer = json!({"median_ms": 2.0, "rate": 5.0, "rate_unit": "GB/s"});
        let mut turns = Turns::default();
        turns.add(&answer, "median_ms").unwrap();
        turns.add(&json!([answer]), "median_ms").unwrap();
        assert_eq!(turns.median_ms, [2.0, 2.0]);
        assert_eq!((turns.first_call_ms.len(), turns.unit.as_str()), (0, "GB/s"));
        let compiled = json!({"median_ms": 2.0, "rate": 5.0, "rate_unit": "GB/s", "first_call_ms": 9.0, "compile_ms": 4.0});
        turns.add(&compiled, "median_ms").unwrap();
        assert_eq!(turns.first_call_ms, [13.0]);
        let part = json!({"median_ms": 8.0, "encoder_median_ms": 2.0, "rate": 3.0, "rate_unit": "s/s"});
        turns.add(&part, "encoder_median_ms").unwrap();
        assert_eq!((turns.median_ms[3], turns.rate[3]), (2.0, 12.0));
    }

    #[test]
    fn an_answer_that_is_an_error_or_lacks_a_field_is_refused() {
        let mut turns = Turns::default();
        assert_eq!(turns.add(&json!({"error": "no such op"}), "median_ms"), Err("no such op".to_owned()));
        assert!(
            turns.add(&json!({"median_ms": 0.0, "rate": 1.0, "rate_unit": "GB/s"}), "median_ms").is_err()
        );
        assert!(turns.add(&json!({"median_ms": 1.0, "rate_unit": "GB/s"}), "median_ms").is_err());
    }

    #[test]
    fn columns_are_aligned() {
        let table =
            [["row", "ms"], ["softmax", "1.5"], ["gelu", "12.5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&table), "row      ms\nsoftmax   1.5\ngelu     12.5\n");
    }

    #[test]
    fn a_row_is_held_to_its_peer_or_to_the_bandwidth() {
        let turns = |ms, rate| Turns { median_ms: vec![ms], rate: vec![rate], ..Turns::default() };
        let verdict = |row: &Row, ours: &Turns, theirs: &Turns, bandwidth| {
            let cells = cells(&document(row, ours, theirs, bandwidth));
            (cells[4].clone(), cells[6].clone(), cells[8].clone())
        };
        let words = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let rows = rows();
        let softmax = rows.iter().find(|row| row.setting.name().starts_with("softmax")).unwrap();
        let (ours, none) = (turns(2.0, 30.0), Turns::default());
        assert_eq!(verdict(softmax, &ours, &turns(3.0, 1.0), None), words("torch", "1.50", "reached"));
        assert_eq!(verdict(softmax, &ours, &turns(2.2, 1.0), None), words("torch", "1.10", "missed"));
        assert_eq!(verdict(softmax, &ours, &none, None), words("-", "-", "-"));
        let q4_1 = rows.iter().find(|row| row.setting.name() == "matrix-vector 16384 q4_1").unwrap();
        assert_eq!(verdict(q4_1, &ours, &none, Some(40.0)), words("bandwidth", "0.75", "reached"));
        assert_eq!(verdict(q4_1, &ours, &none, Some(60.0)), words("bandwidth", "0.50", "missed"));
    }
}
