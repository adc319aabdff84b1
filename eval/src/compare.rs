//! Two runs over the same questions: where they differ, and whether by more than chance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::metric::interval::{Bootstrap, Estimate, groups};
use crate::metric::paired::{McNemar, difference, mcnemar, sign_flips};
use crate::scoring::Metric;

/// One task of both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// The task.
    pub task: String,
    /// Questions.
    pub n: usize,
    /// The mean score of each run.
    pub means: [f64; 2],
    /// Whether a larger score is the better one.
    pub higher_is_better: bool,
    /// The second less the first, with its interval.
    pub difference: Option<Estimate>,
    /// How likely so large a difference is by chance, by flips of the signs of groups.
    pub p: f64,
    /// The test of right and wrong answers, where all scores are 0 or 1.
    pub mcnemar: Option<McNemar>,
    /// Answers that differ.
    pub differ: Vec<Differs>,
}

/// A question that two runs answered differently.
#[derive(Debug, Clone, Serialize)]
pub struct Differs {
    /// Its number.
    pub doc_id: usize,
    /// Its name.
    pub key: String,
    /// What was asked.
    pub prompt: String,
    /// What is right.
    pub target: Value,
    /// What each run said.
    pub said: [String; 2],
    /// The scores.
    pub scores: [f64; 2],
}

/// A line of a run's samples.
struct Sample {
    prompt_hash: String,
    target_hash: String,
    group: String,
    /// The score that stands first, and its name.
    metric: &'static str,
    score: f64,
    line: Value,
}

/// Compare the newest samples of two folders, or two files of them.
///
/// # Errors
/// When there are none, or the two asked different questions: what differs is named.
pub fn compare(first: &Path, second: &Path, bootstrap: &Bootstrap) -> Result<Vec<Compared>> {
    let (a, b) = (files(first)?, files(second)?);
    let common: Vec<&String> = a.keys().filter(|task| b.contains_key(*task)).collect();
    if common.is_empty() {
        let names = |files: &BTreeMap<String, PathBuf>| files.keys().cloned().collect::<Vec<_>>().join(", ");
        let (first, second) = (first.display(), second.display());
        return Err(Error::Task(format!(
            "no task is in both runs: {first} has {}, {second} has {}",
            names(&a),
            names(&b)
        )));
    }
    common.into_iter().map(|task| of_task(task, &a[task], &b[task], bootstrap)).collect()
}

/// The newest file of samples of each task.
fn files(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let task = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Some(name.split_once("_samples_")?.1.strip_suffix(".jsonl")?.to_owned())
    };
    if path.is_file() {
        let name = task(path).unwrap_or_else(|| "samples".into());
        return Ok([(name, path.to_path_buf())].into());
    }
    let fault =
        |e: std::io::Error| Error::Task(format!("{}: {e}; give the --out folder of a run", path.display()));
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(fault)?.filter_map(|e| Some(e.ok()?.path())).collect();
    // Names begin with their date, so that the last is the newest.
    all.sort();
    let found: BTreeMap<String, PathBuf> =
        all.into_iter().filter_map(|path| Some((task(&path)?, path))).collect();
    if found.is_empty() {
        return Err(Error::Task(format!(
            "{}: no *_samples_TASK.jsonl lies in it; give the --out folder of a run",
            path.display()
        )));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<BTreeMap<usize, Sample>> {
    let fault = |why: String| Error::Task(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
    let mut samples = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let at = |why: String| fault(format!("line {}: {why}", number + 1));
        let line: Value = serde_json::from_str(line).map_err(|e| at(e.to_string()))?;
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = line.get("doc_id").and_then(Value::as_u64).ok_or_else(|| at("it has no doc_id".into()))?;
        let score = Metric::FIRST.into_iter().find_map(|name| Some((name, line.get(name)?.as_f64()?)));
        let (metric, score) = score.ok_or_else(|| at("it has no score of a known metric".into()))?;
        let sample = Sample {
            prompt_hash: text("prompt_hash"),
            target_hash: text("target_hash"),
            group: text("group"),
            metric,
            score,
            line,
        };
        samples.insert(usize::try_from(id).unwrap_or(usize::MAX), sample);
    }
    Ok(samples)
}

fn of_task(task: &str, first: &Path, second: &Path, bootstrap: &Bootstrap) -> Result<Compared> {
    let (a, b) = (read(first)?, read(second)?);
    let refused = |why: String| Error::Task(format!("{task}: the runs asked different questions: {why}"));
    let alone = |a: &BTreeMap<usize, Sample>, b: &BTreeMap<usize, Sample>| {
        a.keys().find(|id| !b.contains_key(id)).copied()
    };
    if let Some(id) = alone(&a, &b).or_else(|| alone(&b, &a)) {
        return Err(refused(format!(
            "question {id} is in one of them alone ({} and {} questions)",
            a.len(),
            b.len()
        )));
    }
    for (id, one) in &a {
        let other = &b[id];
        for (what, own, others) in [
            ("prompt", &one.prompt_hash, &other.prompt_hash),
            ("right answer", &one.target_hash, &other.target_hash),
        ] {
            if own != others {
                return Err(refused(format!("the {what} of question {id} differs")));
            }
        }
    }
    let pairs: Vec<(&Sample, &Sample)> = a.iter().map(|(id, one)| (one, &b[id])).collect();
    let scores = |which: fn(&(&Sample, &Sample)) -> f64| pairs.iter().map(which).collect::<Vec<f64>>();
    let (ours, theirs) = (scores(|pair| pair.0.score), scores(|pair| pair.1.score));
    let names: Vec<String> = pairs.iter().map(|(one, _)| one.group.clone()).collect();
    let groups = groups(&names);
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let is_flag = |score: &f64| *score == 0.0 || *score == 1.0;
    let right = |scores: &[f64]| scores.iter().map(|score| *score == 1.0).collect::<Vec<bool>>();
    let flags = ours.iter().chain(&theirs).all(is_flag);
    Ok(Compared {
        task: task.to_owned(),
        n: pairs.len(),
        means: [mean(&ours), mean(&theirs)],
        higher_is_better: pairs.first().is_none_or(|(one, _)| Metric::higher_is_better(one.metric)),
        difference: difference(&ours, &theirs, &groups, bootstrap),
        p: sign_flips(&ours, &theirs, &groups, bootstrap),
        mcnemar: flags.then(|| mcnemar(&right(&ours), &right(&theirs))),
        differ: a.iter().filter_map(|(id, one)| differs(*id, one, &b[id])).collect(),
    })
}

fn differs(doc_id: usize, one: &Sample, other: &Sample) -> Option<Differs> {
    let said = |sample: &Sample| sample.line["resps"][0][0].as_str().unwrap_or_default().to_owned();
    let pair = [said(one), said(other)];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (pair[0] != pair[1]).then(|| Differs {
        doc_id,
        key: text(&one.line["key"]),
        prompt: text(&one.line["arguments"][0][0]),
        target: one.line["target"].clone(),
        said: pair,
        scores: [one.score, other.score],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(folder: &Path, answers: &[(&str, f64)], prompt: &str) {
        let line = |(id, (said, score)): (usize, &(&str, f64))| {
            let line = json!({"doc_id": id, "key": id.to_string(), "group": (id / 2).to_string(), "prompt_hash": prompt,
                "target_hash": "t", "target": "A", "resps": [[said]], "arguments": [["?"]], "accuracy": score});
            format!("{line}\n")
        };
        let text: String = answers.iter().enumerate().map(line).collect();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("20260101_000000_samples_x.jsonl"), text).unwrap();
    }

    #[test]
    fn runs_are_compared_question_by_question_and_other_questions_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, c) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        let all = |right: usize| {
            (0..20).map(|at| if at < right { ("A", 1.0) } else { ("B", 0.0) }).collect::<Vec<_>>()
        };
        write(&a, &all(4), "p");
        write(&b, &all(14), "p");
        write(&c, &all(4), "q");
        let bootstrap = Bootstrap::default();
        let found = &compare(&a, &b, &bootstrap).unwrap()[0];
        assert_eq!((found.n, found.means, found.differ.len()), (20, [0.2, 0.7], 10));
        let test = found.mcnemar.unwrap();
        // Ten answers for the second run alone: twice 2^-10.
        assert_eq!((test.first, test.second), (0, 10));
        assert!((test.p - 2.0 / 1024.0).abs() < 1e-12, "{test:?}");
        let gain = found.difference.unwrap();
        assert!((gain.value - 0.5).abs() < 1e-12 && gain.low > 0.0 && gain.high < 1.0, "{gain:?}");
        assert!(found.p < 0.15, "{}", found.p);
        let same = &compare(&a, &a, &bootstrap).unwrap()[0];
        assert_eq!((same.p, same.differ.len(), same.mcnemar.unwrap().p), (1.0, 0, 1.0));
        let refused = compare(&a, &c, &bootstrap).unwrap_err().to_string();
        assert!(refused.contains("the prompt of question 0 differs"), "{refused}");
        write(&c, &all(4)[..10], "p");
        let refused = compare(&a, &c, &bootstrap).unwrap_err().to_string();
        assert!(refused.contains("question 10 is in one of them alone (20 and 10 questions)"), "{refused}");
    }
}
