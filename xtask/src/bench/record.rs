//! A run that is kept: the machine, the peers, and the rows; what changed since another run; the page that has its table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::turns::{cells, heading};
use crate::command::Error;

/// Changes below this share are never more than noise.
const LEAST: f64 = 0.03;
/// Features of processors that kernels are chosen by.
const FEATURES: [&str; 12] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
];
/// The marks of a page between which the table stands.
const MARKS: [&str; 2] = ["<!-- the table of cargo xtask bench -->", "<!-- its end -->"];

/// One run.
pub struct Record(Value);

impl Record {
    /// Of rows as [`super::turns::document`] gives them.
    pub fn new(peers: Vec<Value>, rows: Vec<Value>) -> Self {
        Self(
            json!({ "machine": machine(), "percept": env!("CARGO_PKG_VERSION"), "peers": peers, "rows": rows }),
        )
    }

    /// All of it.
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// The rows.
    pub fn rows(&self) -> &[Value] {
        self.0["rows"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Adds the run to a file as one line.
    pub fn append(&self, file: &Path) -> Result<(), Error> {
        let failed = |why| Error::file(file, why);
        let mut to = std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
        writeln!(to, "{}", self.0).map_err(failed)
    }

    /// What changed since the last run of a file, line by line.
    pub fn against(&self, file: &Path) -> Result<String, Error> {
        let failed = |why: String| Error::Content { path: file.to_path_buf(), why };
        let text = std::fs::read_to_string(file).map_err(|why| Error::file(file, why))?;
        let last = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .ok_or_else(|| failed("it has no run".into()))?;
        let last =
            serde_json::from_str(last).map_err(|why| failed(format!("its last line is no run: {why}")))?;
        Ok(self.changes(&Self(last)))
    }

    fn changes(&self, before: &Self) -> String {
        let key = |row: &Value| (row["row"].to_string(), row["device"].to_string());
        let old: BTreeMap<_, &Value> = before.rows().iter().map(|row| (key(row), row)).collect();
        let (mut text, mut same, mut new) = (String::new(), 0, 0);
        if self.0["machine"] != before.0["machine"] {
            text.push_str("the runs are of two machines: their times do not compare\n");
        }
        for row in self.rows() {
            let Some(old) = old.get(&key(row)) else {
                new += 1;
                continue;
            };
            let (Some(was), Some(is)) = (old["median_ms"].as_f64(), row["median_ms"].as_f64()) else {
                continue;
            };
            let noise = LEAST + spread(old).max(spread(row));
            if (is / was).max(was / is) > 1.0 + noise {
                let word = if is < was { "faster" } else { "slower" };
                let name = row["row"].as_str().unwrap_or_default();
                // A string takes what is written to it.
                let _ = writeln!(
                    text,
                    "{name}: {was:.3} ms before, {is:.3} ms now: {:.2} times {word}",
                    (is / was).max(was / is)
                );
            } else {
                same += 1;
            }
        }
        let _ = writeln!(text, "{same} rows are the same within noise; {new} were not measured before");
        text
    }

    /// Puts the table between the marks of a page.
    pub fn write_table(&self, page: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(page).map_err(|why| Error::file(page, why))?;
        let text = self.placed(&text).ok_or_else(|| Error::Content {
            path: page.to_path_buf(),
            why: format!("it lacks the marks {} and {}", MARKS[0], MARKS[1]),
        })?;
        std::fs::write(page, text).map_err(|why| Error::file(page, why))
    }

    fn placed(&self, text: &str) -> Option<String> {
        let (before, rest) = text.split_once(MARKS[0])?;
        let (_, after) = rest.split_once(MARKS[1])?;
        Some(format!("{before}{}\n{}{}{after}", MARKS[0], self.markdown(), MARKS[1]))
    }

    /// The machine, the peers and the table.
    fn markdown(&self) -> String {
        let machine = &self.0["machine"];
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let features: Vec<String> = machine["features"].as_array().into_iter().flatten().map(word).collect();
        let mut text =
            format!("{}, {} cores: {}.\n", word(&machine["cpu"]), machine["cores"], features.join(", "));
        let peers = self.0["peers"].as_array().into_iter().flatten();
        let named = |peer: &Value| match peer["version"].as_str() {
            Some(version) => format!("{} {version}", word(&peer["peer"])),
            None => word(&peer["peer"]),
        };
        let mut peers: Vec<String> = peers.map(named).collect();
        // One framework may be several peers.
        peers.sort();
        peers.dedup();
        if !peers.is_empty() {
            let _ = writeln!(text, "Peers: {}.", peers.join(", "));
        }
        // Times of first calls are for the terminal.
        let line = |cells: Vec<String>| format!("| {} |\n", cells[..9].join(" | "));
        text.push('\n');
        text.push_str(&line(heading()));
        text.push_str("|---|---|--:|--:|---|--:|--:|--:|---|\n");
        self.rows().iter().for_each(|row| text.push_str(&line(cells(row))));
        text
    }
}

/// How far the turns of a row lie apart, as a share of their median.
fn spread(row: &Value) -> f64 {
    let turns: Vec<f64> = row["ms"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let (least, most) = turns.iter().fold((f64::INFINITY, 0.0f64), |(l, m), &ms| (l.min(ms), m.max(ms)));
    match row["median_ms"].as_f64() {
        Some(median) if median > 0.0 && most >= least => (most - least) / median,
        _ => 0.0,
    }
}

/// The processor, its features and cores, where the system says so in the way Linux does.
fn machine() -> Value {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
    let features: Vec<&str> =
        FEATURES.into_iter().filter(|f| flags.split_whitespace().any(|flag| flag == *f)).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "cpu": field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()), "features": features, "cores": cores,
        "os": std::env::consts::OS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: &[(&str, [f64; 3])]) -> Record {
        let row = |(name, ms): &(&str, [f64; 3])| json!({ "row": name, "device": "cpu", "ms": ms, "median_ms": ms[1], "rate": 1.0, "rate_unit": "x/s" });
        Record::new(Vec::new(), rows.iter().map(row).collect())
    }

    #[test]
    fn only_changes_beyond_the_noise_of_both_runs_are_told() {
        let before = run(&[("a", [9.9, 10.0, 10.1]), ("b", [8.0, 10.0, 12.0]), ("c", [9.9, 10.0, 10.1])]);
        let now = run(&[
            ("a", [12.9, 13.0, 13.1]),
            ("b", [12.9, 13.0, 13.1]),
            ("c", [7.9, 8.0, 8.1]),
            ("d", [1.0; 3]),
        ]);
        let text = now.changes(&before);
        assert!(text.contains("a: 10.000 ms before, 13.000 ms now: 1.30 times slower"), "{text}");
        assert!(text.contains("c: 10.000 ms before, 8.000 ms now: 1.25 times faster"), "{text}");
        assert!(!text.contains("b:"), "{text}");
        assert!(text.contains("1 rows are the same within noise; 1 were not measured before"), "{text}");
    }

    #[test]
    fn a_history_is_read_back_and_its_last_run_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        run(&[("a", [1.0; 3])]).append(&file).unwrap();
        run(&[("a", [5.0; 3])]).append(&file).unwrap();
        let text = run(&[("a", [10.0; 3])]).against(&file).unwrap();
        assert!(text.starts_with("a: 5.000 ms before"), "{text}");
        std::fs::write(&file, "not json\n").unwrap();
        assert!(run(&[]).against(&file).is_err());
    }

    #[test]
    fn the_table_takes_its_place_in_a_page() {
        let page = format!("# Speed\n{}\nold\n{}\nbelow\n", MARKS[0], MARKS[1]);
        let text = run(&[("a", [1.0; 3])]).placed(&page).unwrap();
        assert!(text.starts_with("# Speed\n<!--") && text.ends_with("<!-- its end -->\nbelow\n"), "{text}");
        assert!(text.contains("| a | cpu | 1.000 |") && !text.contains("old"), "{text}");
        assert!(run(&[]).placed("no marks").is_none());
    }
}
