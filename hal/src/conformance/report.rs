//! What the ladder found: a matrix, what failed, and the operation to write next.

use std::collections::BTreeMap;
use std::fmt;

use percept_graph::DType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::case::{Level, Outcome, Status};
use super::workload::OpTime;
use crate::report::Placement;

/// The outcomes of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The device's id.
    pub device: String,
    /// One outcome per case, in the order of the table.
    pub outcomes: Vec<Outcome>,
}

/// How many cases ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The number of all cases.
    pub cases: usize,
    /// Cases that passed.
    pub passed: usize,
    /// Those that failed, crashed or hung.
    pub failed: usize,
    /// Those the device does not claim to run.
    pub skipped: usize,
}

impl Counts {
    fn add(&mut self, o: &Outcome) {
        self.cases += 1;
        match o.status {
            Status::Passed => self.passed += 1,
            Status::Skipped => self.skipped += 1,
            Status::Failed | Status::Crashed | Status::Hung => self.failed += 1,
        }
    }
}

/// One row of the matrix: all cases of an operation or promise on a rung.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// How its cases ended.
    pub counts: Counts,
    /// The farthest from native that any of them ran; `None` when none ran.
    pub worst: Option<Placement>,
    /// The largest error of an element in units in the last place.
    pub ulp: f64,
    /// The largest normalized mean square error.
    pub nmse: f64,
    /// Milliseconds of all cases.
    pub ms: f64,
    /// The largest share of the measured memory bandwidth, where speed was measured.
    pub share: Option<f64>,
}

impl Report {
    /// A report of these outcomes.
    pub fn new(device: impl Into<String>, outcomes: Vec<Outcome>) -> Self {
        Self { device: device.into(), outcomes }
    }

    /// Counts over all rungs, or over one.
    pub fn counts(&self, level: Option<Level>) -> Counts {
        let mut counts = Counts::default();
        self.outcomes.iter().filter(|o| level.is_none_or(|l| o.level == l)).for_each(|o| counts.add(o));
        counts
    }

    /// Cases in which an operation ran on the host.
    pub fn fallbacks(&self) -> usize {
        self.outcomes.iter().filter(|o| !o.fallbacks.is_empty()).count()
    }

    /// The outcomes that are neither passed nor skipped.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| !matches!(o.status, Status::Passed | Status::Skipped))
    }

    /// The dtype in which the device says that it computes f32, where errors were counted in units of it.
    pub fn computes_in(&self) -> Option<DType> {
        self.outcomes.iter().find_map(|o| o.units)
    }

    /// Operations of a model that are not native, the one that takes most of its time first.
    pub fn next(&self) -> Vec<&OpTime> {
        let mut all: Vec<&OpTime> = self.outcomes.iter().flat_map(|o| &o.next).collect();
        all.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        all
    }

    /// One JSON document: counts, rungs, the operations to write next, and every outcome.
    pub fn to_json(&self) -> Value {
        let all = self.counts(None);
        let level = |l: Level| {
            let c = self.counts(Some(l));
            let ms: f64 = self.outcomes.iter().filter(|o| o.level == l).map(|o| o.ms).sum();
            json!({"cases": c.cases, "passed": c.passed, "failed": c.failed, "skipped": c.skipped, "ms": ms})
        };
        let levels: serde_json::Map<String, Value> = Level::ALL
            .into_iter()
            .filter(|&l| self.counts(Some(l)).cases > 0)
            .map(|l| (l.to_string(), level(l)))
            .collect();
        json!({
            "device": self.device,
            "cases": all.cases,
            "passed": all.passed,
            "failed": all.failed,
            "skipped": all.skipped,
            "fallbacks": self.fallbacks(),
            "computes_in": self.computes_in(),
            "levels": levels,
            "next": self.next(),
            "results": self.outcomes,
        })
    }

    /// The report in a document that [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// What of the document is not such a report's.
    pub fn from_json(document: &Value) -> Result<Self, String> {
        let device = document["device"].as_str().ok_or("it has no \"device\"")?;
        let results = document.get("results").ok_or("it has no \"results\"")?;
        let outcomes = Vec::deserialize(results).map_err(|e| format!("its \"results\" are no cases: {e}"))?;
        Ok(Self::new(device, outcomes))
    }

    /// The matrix: a row for each operation or promise of each rung.
    pub fn rows(&self) -> BTreeMap<(Level, &str), Row> {
        let mut rows: BTreeMap<(Level, &str), Row> = BTreeMap::new();
        for o in &self.outcomes {
            let row = rows.entry((o.level, &o.op)).or_default();
            row.counts.add(o);
            row.worst = row.worst.max(o.placement);
            row.ulp = row.ulp.max(o.error_ulp.unwrap_or(0.0));
            row.nmse = row.nmse.max(o.nmse.unwrap_or(0.0));
            row.ms += o.ms;
            row.share = o.bandwidth_share.into_iter().chain(row.share).reduce(f64::max);
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<30} {:>11} {:<11} {:>9} {:>9} {:>9} {:>9}",
            "operation", "passed", "placement", "ULP", "NMSE", "ms", "bandwidth"
        )?;
        let mut rung = None;
        for ((level, op), r) in self.rows() {
            if rung.replace(level) != Some(level) {
                writeln!(f, "{level}")?;
            }
            let placement = r.worst.map_or("-".to_string(), |p| p.to_string());
            let share = r.share.map_or(String::new(), |s| format!("{:.0} %", 100.0 * s));
            let passed = format!("{}/{}", r.counts.passed, r.counts.cases - r.counts.skipped);
            writeln!(
                f,
                "  {op:<28} {passed:>11} {placement:<11} {:>9.3} {:>9.1e} {:>9.1} {share:>9}",
                r.ulp, r.nmse, r.ms
            )?;
        }
        for o in self.failures() {
            writeln!(f, "{}: {}: {}", o.case, format!("{:?}", o.status).to_lowercase(), o.note)?;
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for o in self.outcomes.iter().filter(|o| o.status == Status::Skipped) {
            *reasons.entry(&o.op).or_default() += 1;
        }
        for (op, n) in reasons {
            writeln!(f, "{op}: {n} cases skipped, the device does not claim them")?;
        }
        for (i, op) in self.next().iter().take(5).enumerate() {
            let what = if i == 0 { "the operation to write next" } else { "then" };
            writeln!(
                f,
                "{what}: {} ({}, {:.0} % of a decoder layer's training step)",
                op.op,
                op.placement,
                100.0 * op.share
            )?;
        }
        if let Some(dtype) = self.computes_in() {
            writeln!(f, "the device says that it computes f32 in {dtype}: errors are in units of {dtype}")?;
        }
        let c = self.counts(None);
        write!(
            f,
            "{}: {} cases, {} passed, {} failed, {} skipped, {} with a fallback to the host",
            self.device,
            c.cases,
            c.passed,
            c.failed,
            c.skipped,
            self.fallbacks()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(case: &str, level: Level, status: Status) -> Outcome {
        Outcome {
            case: case.into(),
            level,
            op: case.split('/').nth(1).unwrap_or_default().into(),
            placement: Some(Placement::Native),
            error_ulp: Some(0.5),
            units: None,
            nmse: Some(1e-15),
            ms: 2.0,
            status,
            note: if status == Status::Passed { String::new() } else { "element 7".into() },
            fallbacks: Vec::new(),
            bandwidth_share: None,
            next: Vec::new(),
        }
    }

    #[test]
    fn json_has_the_promised_shape() {
        let mut slow = outcome("L4/model_time/decoder", Level::L4, Status::Passed);
        slow.next.push(OpTime {
            op: "attention".into(),
            placement: Placement::Decomposed,
            ms: 4.0,
            share: 0.4,
        });
        slow.next.push(OpTime { op: "rope".into(), placement: Placement::Host, ms: 5.0, share: 0.5 });
        slow.fallbacks.push("rope".into());
        let mut infinite = outcome("L1/exp/f32/one", Level::L1, Status::Crashed);
        infinite.error_ulp = None;
        let skipped = outcome("L1/sort/f32/one", Level::L1, Status::Skipped);
        let r = Report::new(
            "cpu",
            vec![outcome("L1/add/f32/one", Level::L1, Status::Passed), infinite, skipped, slow],
        );
        let j = r.to_json();
        assert_eq!((&j["device"], &j["cases"], &j["passed"]), (&json!("cpu"), &json!(4), &json!(2)));
        assert_eq!((&j["failed"], &j["skipped"], &j["fallbacks"]), (&json!(1), &json!(1), &json!(1)));
        assert_eq!(j["levels"]["L1"]["cases"], 3);
        assert!(j["levels"].get("L0").is_none());
        let first = &j["results"][0];
        for key in ["case", "level", "placement", "error_ulp", "nmse", "ms", "status"] {
            assert!(first.get(key).is_some(), "{key}");
        }
        assert_eq!(
            (&first["level"], &first["placement"], &first["status"]),
            (&json!("L1"), &json!("native"), &json!("passed"))
        );
        assert_eq!(j["results"][1]["error_ulp"], Value::Null);
        assert_eq!(j["next"][0]["op"], "rope");
        let back = Report::from_json(&j).unwrap();
        assert_eq!((&back.device, &back.outcomes), (&r.device, &r.outcomes));
        let broken = Report::from_json(&json!({"device": "cpu", "results": [{"case": 7}]})).unwrap_err();
        assert!(broken.contains("results"), "{broken}");
        let text = r.to_string();
        assert!(text.contains("the operation to write next: rope (host"), "{text}");
        assert!(text.contains("L1/exp/f32/one: crashed: element 7"), "{text}");
        assert!(
            text.ends_with("4 cases, 2 passed, 1 failed, 1 skipped, 1 with a fallback to the host"),
            "{text}"
        );
    }
}
