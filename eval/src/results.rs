//! Results as documents: the one that is printed, and the files of lmms-eval's shapes, which others' scripts read.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::explain::Explanation;
use crate::journal::Given;
use crate::run::{Agreement, Asked, Outcome};
use crate::scoring::Metric;
use crate::task::Task;

/// A task and what came of it.
pub struct Finished {
    /// The task.
    pub task: Task,
    /// The folder of its data.
    pub folder: PathBuf,
    /// What came of it.
    pub outcome: Outcome,
    /// How far the device strays from the reference, where that was asked.
    pub agreement: Option<Agreement>,
    /// Where it first leaves it, on the question on which both are furthest apart.
    pub explanation: Option<Explanation>,
}

/// The document that is printed: scores with their intervals by task, agreement, and what ran.
pub fn document<'f>(finished: impl IntoIterator<Item = &'f Finished>, run: &Value) -> Value {
    let (mut tasks, mut agreement, mut data) = (Map::new(), Map::new(), Map::new());
    let mut explanations = Map::new();
    for Finished { task, outcome, agreement: held, explanation, .. } in finished {
        let mut entry = json!(outcome.scores);
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("seconds".into(), json!(outcome.seconds));
            entry.insert("model_seconds".into(), json!(outcome.model_seconds));
            let of_all = |count: fn(&Given) -> usize| {
                outcome.asked.iter().map(|asked| count(&asked.line.given)).sum::<usize>()
            };
            entry.insert("prompt_tokens".into(), json!(of_all(|given| given.prompt_tokens)));
            entry.insert("answer_tokens".into(), json!(of_all(|given| given.tokens.len())));
            // Of this run alone, which may have found all answers given.
            let new = outcome.tokens.iter().sum::<usize>() as f64;
            let rate = (outcome.model_seconds > 0.0).then(|| new / outcome.model_seconds);
            entry.insert("tokens_per_s".into(), json!(rate));
        }
        tasks.insert(task.name.clone(), entry);
        if let Some(held) = held {
            agreement.insert(task.name.clone(), json!(held));
        }
        if let Some(explanation) = explanation {
            explanations.insert(task.name.clone(), json!(explanation));
        }
        let mut own = outcome.manifest.clone();
        if let Some(own) = own.as_object_mut() {
            own.remove("task");
            run.as_object().into_iter().flatten().for_each(|(key, _)| {
                own.remove(key);
            });
            own.insert("prompts_sha256".into(), json!(prompts(&outcome.asked)));
            own.insert("compat".into(), json!(task.compat));
        }
        data.insert(task.name.clone(), own);
    }
    let mut manifest = run.clone();
    if let Some(manifest) = manifest.as_object_mut() {
        manifest.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        manifest.insert("tasks".into(), Value::Object(data));
    }
    let mut document = json!({"tasks": tasks, "agreement": agreement, "manifest": manifest});
    if !explanations.is_empty() {
        document["explanations"] = Value::Object(explanations);
    }
    document
}

/// The hash of all that the model was given, in order.
fn prompts(asked: &[Asked]) -> String {
    let mut hash = Sha256::new();
    for Asked { line, .. } in asked {
        hash.update(line.given.tokens_sha256.as_bytes());
        hash.update(line.given.media.to_string().as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Write `{date}_results.json` and a `{date}_samples_{task}.jsonl` for each task, as lmms-eval does, and our own `results.json`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, finished: &[Finished], run: &Value, date: &str) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut put = |name: String, text: String| {
        let path = folder.join(name);
        percept_files::write_shared(&path, text.as_bytes())
            .map_err(|e| Error::Task(format!("{}: {e}", path.display())))?;
        written.push(path);
        Ok::<_, Error>(())
    };
    for Finished { task, outcome, .. } in finished {
        let lines: String = outcome.asked.iter().map(|asked| format!("{}\n", sample(task, asked))).collect();
        put(format!("{date}_samples_{}.jsonl", task.name), lines)?;
    }
    put(format!("{date}_results.json"), format!("{:#}\n", summary(finished, run, date)))?;
    put("results.json".into(), format!("{:#}\n", document(finished, run)))?;
    Ok(written)
}

/// One line of `samples`, in lmms-eval's shape; what is ours is in `given`.
fn sample(task: &Task, Asked { question, line, scored }: &Asked) -> Value {
    let row = Value::Object(question.row.clone());
    let target = match &question.right.texts[..] {
        [one] => json!(one),
        several => json!(several),
    };
    let first = task.metric.names().first().copied().unwrap_or("score");
    let mut sample = json!({
        "doc_id": question.id,
        "doc": row,
        "target": target,
        "arguments": [[question.prompt, {"max_new_tokens": task.ask.max_tokens, "until": task.ask.stop}]],
        "resps": [[line.answer.said]],
        "filtered_resps": [scored.read.clone().unwrap_or_default()],
        "doc_hash": sha(&row.to_string()),
        "prompt_hash": sha(&question.prompt),
        "target_hash": sha(&target.to_string()),
        "key": question.key,
        "group": question.group,
        "unparsed": scored.unparsed,
        "failed": line.answer.failed,
        "given": line.given,
    });
    if let Some(sample) = sample.as_object_mut() {
        sample.insert(first.into(), json!(scored.value));
        if let Some(confidence) = line.answer.confidence {
            sample.insert("confidence".into(), json!(confidence));
        }
    }
    sample
}

/// `results.json` in lmms-eval's shape.
fn summary(finished: &[Finished], run: &Value, date: &str) -> Value {
    let (mut results, mut configs, mut versions) = (Map::new(), Map::new(), Map::new());
    let (mut shots, mut better, mut counts) = (Map::new(), Map::new(), Map::new());
    for Finished { task, outcome, .. } in finished {
        let mut entry = Map::new();
        entry.insert("alias".into(), json!(task.name));
        let mut directions = Map::new();
        for (name, estimate) in &outcome.scores.metrics {
            entry.insert(format!("{name},none"), json!(estimate.value));
            // Half of a 95 % interval of a normal distribution is 1.96 deviations.
            let deviation = (estimate.high - estimate.low) / (2.0 * 1.959_963_984_540_054);
            entry.insert(format!("{name}_stderr,none"), json!(deviation));
            directions.insert(name.clone(), json!(Metric::higher_is_better(name)));
        }
        results.insert(task.name.clone(), Value::Object(entry));
        configs.insert(
            task.name.clone(),
            json!({"task": task.name, "dataset_path": task.hub, "data": task.data, "ask": task.ask, "score": task.score}),
        );
        versions.insert(task.name.clone(), json!(0));
        shots.insert(task.name.clone(), json!(0));
        better.insert(task.name.clone(), Value::Object(directions));
        let n = outcome.asked.len();
        counts.insert(task.name.clone(), json!({"original": n, "effective": n}));
    }
    json!({
        "results": results,
        "configs": configs,
        "versions": versions,
        "n-shot": shots,
        "higher_is_better": better,
        "n-samples": counts,
        "config": run,
        "date": date,
    })
}

/// A time as lmms-eval writes it in the names of its files, `20260131_235959`, of seconds since 1970, in UTC.
pub fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days: years begin in March, so that leap days come last.
    let shifted = days as i64 + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (of_month, month) =
        (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{of_month:02}_{hour:02}{minute:02}{second:02}")
}

/// The time now, as [`date`] has it.
pub fn now() -> String {
    date(UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N +%Y%m%d_%H%M%S`
        for (seconds, expected) in [
            (0, "19700101_000000"),
            (951_827_696, "20000229_123456"),
            (1_709_251_199, "20240229_235959"),
            (1_709_251_200, "20240301_000000"),
            (4_102_444_799, "20991231_235959"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
