//! Reports of the ladder beside one another: what each device runs, how exactly and how fast, and where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use percept::data::report::Page;
use percept::hal::DeviceInfo;
use percept::hal::conformance::{Level, Outcome, Report, Row, Status};
use serde_json::{Value, json};

use crate::cli::table::table;

/// Cases that differ, and how many of them the terminal and the page show.
const SHOWN: usize = 40;

/// Reports in the order they were given, under names that differ.
pub struct SideBySide {
    names: Vec<String>,
    reports: Vec<Report>,
}

impl SideBySide {
    /// Of two reports of one device, the second is called `ID (2)`.
    pub fn new(reports: Vec<Report>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for report in &reports {
            let mut name = report.device.clone();
            let mut number = 2;
            while names.contains(&name) {
                name = format!("{} ({number})", report.device);
                number += 1;
            }
            names.push(name);
        }
        Self { names, reports }
    }

    /// Every rung and operation that any report has, with each report's row.
    fn rows(&self) -> Vec<(Level, String, Vec<Option<Row>>)> {
        let all: Vec<BTreeMap<(Level, &str), Row>> = self.reports.iter().map(Report::rows).collect();
        let keys: BTreeSet<(Level, &str)> = all.iter().flat_map(|rows| rows.keys().copied()).collect();
        let cells = |key| all.iter().map(|rows| rows.get(&key).cloned()).collect();
        keys.into_iter().map(|key| (key.0, key.1.to_string(), cells(key))).collect()
    }

    /// Cases that did not end alike on all devices that have them, with each device's outcome.
    fn differences(&self) -> Vec<(&str, Vec<Option<&Outcome>>)> {
        let all: Vec<BTreeMap<&str, &Outcome>> =
            self.reports.iter().map(|r| r.outcomes.iter().map(|o| (o.case.as_str(), o)).collect()).collect();
        let cases: BTreeSet<&str> = all.iter().flat_map(|outcomes| outcomes.keys().copied()).collect();
        let outcomes = |case: &str| all.iter().map(|o| o.get(case).copied()).collect::<Vec<_>>();
        cases
            .into_iter()
            .map(|case| (case, outcomes(case)))
            .filter(|(_, outcomes)| {
                let ends: BTreeSet<&str> = outcomes.iter().flatten().map(|o| ending(o.status)).collect();
                ends.len() > 1
            })
            .collect()
    }

    /// One JSON document: the devices' counts, the matrix, and the cases that ended differently.
    pub fn to_json(&self) -> Value {
        let devices: Vec<Value> = self
            .names
            .iter()
            .zip(&self.reports)
            .map(|(name, r)| {
                let c = r.counts(None);
                json!({
                    "device": name, "cases": c.cases, "passed": c.passed, "failed": c.failed, "skipped": c.skipped,
                    "fallbacks": r.fallbacks(), "next": r.next(),
                })
            })
            .collect();
        let rows: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|(level, op, cells)| json!({"level": level, "op": op, "devices": cells}))
            .collect();
        let differences: Vec<Value> = self
            .differences()
            .into_iter()
            .map(|(case, outcomes)| {
                let ends: Vec<Option<&str>> =
                    outcomes.iter().map(|outcome| outcome.map(|o| ending(o.status))).collect();
                json!({"case": case, "ended": ends})
            })
            .collect();
        json!({"devices": devices, "rows": rows, "differences": differences})
    }

    fn summary(&self) -> Vec<Vec<String>> {
        let row = |(name, r): (&String, &Report)| {
            let c = r.counts(None);
            let counts = [c.cases, c.passed, c.failed, c.skipped, r.fallbacks()];
            let next = r.next().first().map_or(String::new(), |op| op.op.clone());
            [vec![name.clone()], counts.map(|n| n.to_string()).to_vec(), vec![next]].concat()
        };
        self.names.iter().zip(&self.reports).map(row).collect()
    }

    /// The same on a page that needs no other file; `infos` are the devices that could be asked.
    pub fn page(&self, infos: &[Option<DeviceInfo>]) -> String {
        let several = self.reports.len() > 1;
        let title = format!("Devices: {}", self.names.join(", "));
        let mut page = Page::new(
            &title,
            "What each device computes natively, how far it is from the f64 reference, and how fast it is: the conformance \
             ladder of Percept.",
        );
        page.heading("Cases");
        page.table(&SUMMARY, &[1, 2, 3, 4, 5], &self.summary());
        page.text(
            "A case is skipped where the device does not claim it. A fallback is a case in which some operation ran on the \
             host. What to write next is the operation that is not native and takes most of a model's time.",
        );
        let known: Vec<Vec<String>> = infos.iter().flatten().map(described).collect();
        if !known.is_empty() {
            page.heading("Devices");
            page.table(&["device", "hardware", "vendor", "driver", "dtypes", "features"], &[], &known);
        }
        page.heading("Matrix");
        page.text(
            "For each operation the placement farthest from native, passed of claimed cases, and the worst error of an element \
             in units in the last place (ULP). L0 is memory, L1 primitives, L2 composites, L3 gradients and invariance, L4 \
             endurance and speed, L5 a tiny model of every family.",
        );
        let header: Vec<&str> =
            ["rung", "operation"].into_iter().chain(self.names.iter().map(String::as_str)).collect();
        let rows: Vec<Vec<String>> = self
            .rows()
            .into_iter()
            .map(|(level, op, cells)| {
                let cells = cells.iter().map(|c| cell(c.as_ref(), true));
                [level.to_string(), op].into_iter().chain(cells).collect()
            })
            .collect();
        page.table(&header, &[], &rows);
        self.add_speed(&mut page);
        if several {
            page.heading("Cases that end differently");
            let rows = self.difference_rows(usize::MAX);
            let header: Vec<&str> =
                ["case"].into_iter().chain(self.names.iter().map(String::as_str)).collect();
            match rows.is_empty() {
                true => page.text("None: every case that two devices have ends alike on both."),
                false => page.table(&header, &[], &rows),
            };
        }
        page.heading("What failed");
        let failed: Vec<Vec<String>> = self
            .names
            .iter()
            .zip(&self.reports)
            .flat_map(|(name, r)| {
                r.failures()
                    .map(move |o| vec![name.clone(), o.case.clone(), ending(o.status).into(), o.note.clone()])
            })
            .collect();
        match failed.is_empty() {
            true => page.text("Nothing."),
            false => page.table(&["device", "case", "ended", "what was wrong"], &[], &failed),
        };
        page.html()
    }

    /// Time of the speed cases, and their share of the memory's measured bandwidth.
    fn add_speed(&self, page: &mut Page) {
        let timed = |(level, _, cells): &(Level, String, Vec<Option<Row>>)| {
            *level == Level::L4 && cells.iter().flatten().any(|row| row.share.is_some())
        };
        let rows: Vec<Vec<String>> = self
            .rows()
            .into_iter()
            .filter(timed)
            .map(|(_, op, cells)| {
                let speed = |row: &Row| {
                    let share = row.share.map_or(String::new(), |s| format!(", {:.0} %", 100.0 * s));
                    format!("{:.2} ms{share}", row.ms)
                };
                let cells = cells.iter().map(|c| c.as_ref().map_or(String::new(), speed));
                std::iter::once(op).chain(cells).collect()
            })
            .collect();
        if !rows.is_empty() {
            let header: Vec<&str> =
                ["operation"].into_iter().chain(self.names.iter().map(String::as_str)).collect();
            page.heading("Speed");
            page.text("Time of all timed cases, and the largest share of the memory bandwidth that was measured on the device.");
            page.table(&header, &[], &rows);
        }
    }

    fn difference_rows(&self, most: usize) -> Vec<Vec<String>> {
        let row = |(case, outcomes): (&str, Vec<Option<&Outcome>>)| {
            let ends = outcomes.iter().map(|o| o.map_or("-", |o| ending(o.status)).to_string());
            std::iter::once(case.to_string()).chain(ends).collect()
        };
        self.differences().into_iter().take(most).map(row).collect()
    }
}

const SUMMARY: [&str; 7] = ["device", "cases", "passed", "failed", "skipped", "fallbacks", "write next"];

impl fmt::Display for SideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<&str> =
            ["operation"].into_iter().chain(self.names.iter().map(String::as_str)).collect();
        let mut matrix = table(&header, &[]);
        let mut rung = None;
        for (level, op, cells) in self.rows() {
            if rung.replace(level) != Some(level) {
                matrix.add_row([level.to_string()]);
            }
            let cells = cells.iter().map(|c| cell(c.as_ref(), false));
            matrix.add_row(std::iter::once(format!("  {op}")).chain(cells));
        }
        writeln!(f, "{matrix}")?;
        let (all, rows) = (self.differences().len(), self.difference_rows(SHOWN));
        if all > 0 {
            let header: Vec<&str> = ["cases that end differently"]
                .into_iter()
                .chain(self.names.iter().map(String::as_str))
                .collect();
            let mut t = table(&header, &[]);
            rows.iter().for_each(|row| {
                t.add_row(row);
            });
            writeln!(f, "\n{t}")?;
            if all > SHOWN {
                writeln!(f, "and {} more; --html or --json have them all", all - SHOWN)?;
            }
        }
        let mut t = table(&SUMMARY, &[1, 2, 3, 4, 5]);
        self.summary().into_iter().for_each(|row| {
            t.add_row(row);
        });
        writeln!(f, "\n{t}")
    }
}

/// `native 12/12`, or with the error `native 12/12, 0.5 ULP`.
fn cell(row: Option<&Row>, with_error: bool) -> String {
    let Some(row) = row else { return "-".into() };
    let claimed = row.counts.cases - row.counts.skipped;
    let Some(worst) = row.worst.filter(|_| claimed > 0) else {
        return if claimed == 0 { "not claimed".into() } else { format!("{}/{claimed}", row.counts.passed) };
    };
    let error = if with_error && row.ulp > 0.0 { format!(", {:.3} ULP", row.ulp) } else { String::new() };
    format!("{worst} {}/{claimed}{error}", row.counts.passed)
}

fn described(info: &DeviceInfo) -> Vec<String> {
    let dtypes: Vec<String> = info.dtypes.iter().map(ToString::to_string).collect();
    let words = [&info.id, &info.name, &info.vendor, &info.driver].map(String::clone).to_vec();
    [words, vec![dtypes.join(" "), info.features.join(" ")]].concat()
}

fn ending(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Skipped => "skipped",
        Status::Failed => "failed",
        Status::Crashed => "crashed",
        Status::Hung => "hung",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(device: &str, cases: &[(&str, &str)]) -> Report {
        let results: Vec<Value> = cases
            .iter()
            .map(|(case, status)| {
                json!({
                    "case": case, "level": "L1", "op": case.split('/').nth(1), "placement": "native", "error_ulp": 0.25,
                    "nmse": 0.0, "ms": 1.0, "status": status, "note": if *status == "passed" { "" } else { "element 3 <is> off" },
                })
            })
            .collect();
        Report::from_json(&json!({"device": device, "results": results})).unwrap()
    }

    #[test]
    fn devices_stand_side_by_side_and_what_differs_is_named() {
        let a = report("cpu", &[("L1/exp/f32", "passed"), ("L1/sort/f32", "passed")]);
        let b =
            report("chip", &[("L1/exp/f32", "failed"), ("L1/sort/f32", "passed"), ("L1/add/f32", "skipped")]);
        let all = SideBySide::new(vec![a.clone(), b, a]);
        let document = all.to_json();
        assert_eq!(document["devices"][2]["device"], "cpu (2)");
        assert_eq!(
            document["differences"],
            json!([{"case": "L1/exp/f32", "ended": ["passed", "failed", "passed"]}])
        );
        let add = &document["rows"][0];
        assert_eq!((&add["op"], &add["devices"][0]), (&json!("add"), &Value::Null));
        let text = all.to_string();
        assert!(text.contains("not claimed") && text.contains("native 0/1"), "{text}");
        let page = all.page(&[]);
        assert!(
            page.contains("native 1/1, 0.250 ULP") && page.contains("element 3 &lt;is&gt; off"),
            "{page}"
        );
    }
}
