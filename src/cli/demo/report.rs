//! `report.html`: what was done and what came of it, on one page beside the files that it shows.

use std::fmt::Write as _;

use percept::data::Kind;
use serde_json::Value;

use super::super::Failure;
use super::super::eval::Task;
use super::super::failure::read_text;
use super::answers::Asked;
use super::chart::lines;
use super::command::Entry;
use super::results::Results;
use super::runs::{FLAGS, GENERAL, Work};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2330}\
h1{font-size:1.8rem}h2{font-size:1.2rem;margin-top:2.5rem}table{border-collapse:collapse}\
td,th{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #dde2ea}td:first-child,th:first-child{text-align:left}\
pre{background:#f4f6f9;padding:.8rem;overflow-x:auto;font-size:.8rem}.matrix td,.matrix th{font-size:.75rem;padding:.25rem .4rem}\
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:1rem}.card{border:1px solid #dde2ea;\
border-radius:.5rem;padding:.8rem}.card img,.card video{width:8rem;height:8rem;image-rendering:pixelated;display:block}\
.card audio{width:100%}.card p{margin:.3rem 0;font-size:.85rem}.right{color:#11713a}.wrong{color:#a8261c}\
svg{max-width:100%;height:auto}.note{color:#5a6475;font-size:.9rem}";

/// The page.
///
/// # Errors
/// When a log cannot be read.
pub fn page(work: &Work, results: &Results, asked: &[Asked], log: &[Entry]) -> Result<String, Failure> {
    let mut p = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Percept demo</title><style>{STYLE}</style></head><body>\n\
         <h1>A small model's whole life</h1>\n<p>One model of text, pictures, video and sound, trained from nothing on \
         {device}, then adapted to flags. Scale {scale}, seed {seed}, {seconds:.0} seconds from the first command to \
         the last.</p>\n",
        device = escaped(&results.device),
        scale = results.scale,
        seed = results.seed,
        seconds = results.seconds,
    );
    p += &scores(results);
    p += "<h2>Loss</h2>\n";
    for (name, title) in [("pretrain", "Pretraining"), ("finetune", "Fine-tuning to flags")] {
        p += &curve(work, name, title)?;
    }
    if let Some(task) = results.before.iter().find(|t| t.name == GENERAL[0]) {
        p += "<h2>Which categories are taken for which</h2>\n<p class=\"note\">Held-out emoji before fine-tuning: rows are \
              what they are, columns what the model says.</p>\n";
        p += &confusion(task);
    }
    p += "<h2>Questions about held-out files</h2>\n<div class=\"cards\">\n";
    asked.iter().for_each(|a| p += &card(a));
    p += "</div>\n<h2>How it was made</h2>\n<p class=\"note\">These commands, in a folder of your own, do the same \
          again.</p>\n<pre>";
    for entry in log {
        match entry {
            Entry::Said(text) => writeln!(p, "\n# {}", escaped(text)),
            Entry::Ran(line, seconds) => writeln!(p, "{}    # {seconds:.1} s", escaped(line)),
            Entry::Wrote(path) => writeln!(p, "# wrote {}", escaped(&path.display().to_string())),
        }
        .unwrap_or_default();
    }
    p += "</pre>\n</body></html>\n";
    Ok(p)
}

fn scores(results: &Results) -> String {
    let mut t =
        "<h2>Scores on held-out questions</h2>\n<table><tr><th>task</th><th>most frequent answer</th>\
                 <th>after pretraining</th><th>after fine-tuning</th><th>questions</th></tr>\n"
            .to_string();
    let percent = |v: f64| format!("{:.1} %", 100.0 * v);
    for task in GENERAL.into_iter().chain([FLAGS]) {
        if let (Some(a), Some(b)) = (results.score(task, false), results.score(task, true)) {
            t += &format!(
                "<tr><td>{task}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                percent(a.baseline),
                percent(a.accuracy),
                percent(b.accuracy),
                a.n
            );
        }
    }
    t + "</table>\n<p class=\"note\">An answer counts when it is the expected one word for word. Fine-tuning shows flags with \
         some of the old tasks; what it costs those is the difference between the columns.</p>\n"
}

/// The loss of a run by step, smoothed, and what was measured on held-out data.
fn curve(work: &Work, run: &str, title: &str) -> Result<String, Failure> {
    let path = work.file(&format!("{run}/log.jsonl"));
    let events: Vec<Value> =
        read_text(&path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| events.iter().filter(move |e| e["event"] == kind);
    let mut mean: Option<f64> = None;
    let mut train = Vec::new();
    for e in of("step") {
        if let (Some(step), Some(loss)) = (e["step"].as_f64(), e["loss"].as_f64()) {
            let next = mean.map_or(loss, |m| 0.95 * m + 0.05 * loss);
            mean = Some(next);
            train.push((step, next));
        }
    }
    let mut series = vec![("training".to_string(), train)];
    for e in of("evaluate") {
        if let (Some(name), Some(step), Some(loss)) =
            (e["corpus"].as_str(), e["step"].as_f64(), e["loss"].as_f64())
        {
            let name = format!("{name}, held out");
            match series.iter_mut().find(|s| s.0 == name) {
                Some(s) => s.1.push((step, loss)),
                None => series.push((name, vec![(step, loss)])),
            }
        }
    }
    lines(title, ["step", "loss"], &series).map_err(|why| Failure::Content { path, why })
}

/// How often each answer was given for each expected one.
fn confusion(task: &Task) -> String {
    let mut names: Vec<&str> = task.answers.iter().map(|a| &a.expected[..]).collect();
    names.sort_unstable();
    names.dedup();
    let count = |e: &str, said: &dyn Fn(&str) -> bool| {
        task.answers.iter().filter(|a| a.expected == e && said(&a.said)).count()
    };
    let mut t = "<table class=\"matrix\"><tr><th></th>".to_string();
    names.iter().for_each(|n| t += &format!("<th>{}</th>", escaped(n)));
    t += "<th>other</th></tr>\n";
    for expected in &names {
        t += &format!("<tr><td>{}</td>", escaped(expected));
        let all = count(expected, &|_| true).max(1);
        let mut cell = |n: usize, right: bool| {
            let share = n as f64 / all as f64;
            let colour = if right { "17,113,58" } else { "168,38,28" };
            t += &format!("<td style=\"background:rgba({colour},{:.2})\">{n}</td>", 0.85 * share);
        };
        names.iter().for_each(|said| cell(count(expected, &|s| s == *said), said == expected));
        cell(count(expected, &|s| !names.contains(&s)), false);
        t += "</tr>\n";
    }
    t + "</table>\n"
}

fn card(asked: &Asked) -> String {
    let file = escaped(&asked.file.display().to_string());
    let medium = match asked.kind {
        Kind::Image => format!("<img src=\"{file}\" alt=\"\">"),
        Kind::Video => format!("<video src=\"{file}\" autoplay loop muted playsinline></video>"),
        Kind::Audio => format!("<audio src=\"{file}\" controls></audio>"),
    };
    let (class, mark) = if asked.said == asked.expected { ("right", "✓") } else { ("wrong", "✗") };
    format!(
        "<div class=\"card\">{medium}<p>{}</p><p class=\"{class}\">{mark} {}</p><p class=\"note\">{}: {}</p></div>\n",
        escaped(&asked.question),
        escaped(&asked.said),
        asked.task,
        escaped(&asked.expected)
    )
}

/// Text for a place in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::super::eval::Answer;
    use super::*;

    #[test]
    fn a_matrix_counts_every_answer() {
        let answer = |expected: &str, said: &str| Answer {
            key: String::new(),
            question: String::new(),
            expected: expected.into(),
            said: said.into(),
        };
        let answers = vec![answer("a", "a"), answer("a", "b"), answer("b", "b"), answer("b", "<x>")];
        let task = Task { name: "t".into(), accuracy: 0.5, baseline: 0.5, n: 4, answers };
        let t = confusion(&task);
        assert_eq!(t.matches("0.42)\">1<").count(), 4, "{t}");
        assert!(!t.contains("<x>"));
    }
}
