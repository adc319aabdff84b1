//! `report.html`: what was done and what came of it, on one page that needs no other file.

use percept::data::Kind;
use percept::data::report::{Card, Page, Series, confusion, image_card, lines, sound_card, video_card};
use percept::modalities::image::{Limits, decode};
use serde_json::Value;

use super::super::Failure;
use super::super::eval::Task;
use super::super::failure::read_text;
use super::answers::Asked;
use super::command::Entry;
use super::results::Results;
use super::runs::{FLAGS, GENERAL, Work};

/// The page.
///
/// # Errors
/// When a log cannot be read.
pub fn page(work: &Work, results: &Results, asked: &[Asked], log: &[Entry]) -> Result<String, Failure> {
    let subtitle = format!(
        "One model of text, pictures, video and sound, trained from nothing on {}, then adapted to flags. Scale {}, seed \
         {}, {:.0} seconds from the first command to the last.",
        results.device, results.scale, results.seed, results.seconds
    );
    let mut page = Page::new("A small model's whole life", &subtitle);
    page.heading("Scores on held-out questions");
    page.table(
        &["task", "most frequent answer", "after pretraining", "after fine-tuning", "questions"],
        &[1, 2, 3, 4],
        &scores(results),
    );
    page.text(
        "An answer counts when it is the expected one word for word. Fine-tuning shows flags with some of the old tasks; \
         what it costs those is the difference between the columns.",
    );
    page.heading("Loss");
    for (run, title) in [("pretrain", "Pretraining"), ("finetune", "Fine-tuning to flags")] {
        page.chart(&curve(work, run, title)?);
    }
    page.heading("Which categories are taken for which");
    page.text("Rows are what held-out emoji are, columns what the model says they are.");
    for (tasks, when) in [(&results.before, "After pretraining"), (&results.after, "After fine-tuning")] {
        if let Some(task) = tasks.iter().find(|t| t.name == GENERAL[0]) {
            page.chart(&matrix(when, task).map_err(|why| drawing(work, why))?);
        }
    }
    page.heading("Questions about held-out files");
    page.cards(&asked.iter().map(card).collect::<Vec<_>>());
    page.heading("How it was made");
    page.text("The commands in their order; in a folder of your own they do the same again.");
    page.table(&["", "seconds"], &[1], &log.iter().map(line).collect::<Vec<_>>());
    Ok(page.html())
}

fn scores(results: &Results) -> Vec<Vec<String>> {
    let percent = |v: f64| format!("{:.1} %", 100.0 * v);
    let row = |task: &str| {
        let (before, after) = (results.score(task, false)?, results.score(task, true)?);
        Some(vec![
            task.to_string(),
            percent(before.baseline),
            percent(before.accuracy),
            percent(after.accuracy),
            before.n.to_string(),
        ])
    };
    GENERAL.into_iter().chain([FLAGS]).filter_map(row).collect()
}

/// The loss of a run by step, smoothed, and what was measured on held-out data.
fn curve(work: &Work, run: &str, title: &str) -> Result<String, Failure> {
    let text = read_text(&work.file(&format!("{run}/log.jsonl")))?;
    lines(title, ["step", "loss"], &series(&text)).map_err(|why| drawing(work, why))
}

/// The lines of a run's log.
fn series(log: &str) -> Vec<Series> {
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| {
        events
            .iter()
            .filter(move |e| e["event"] == kind)
            .filter_map(|e| Some((e["corpus"].as_str(), e["step"].as_f64()?, e["loss"].as_f64()?)))
    };
    let mut mean: Option<f64> = None;
    let smoothed = of("step").map(|(_, step, loss)| {
        let next = mean.map_or(loss, |m| 0.95 * m + 0.05 * loss);
        mean = Some(next);
        (step, next)
    });
    let mut all: Vec<Series> = vec![("training".to_string(), smoothed.collect())];
    for (corpus, step, loss) in of("evaluate") {
        let name = format!("{}, held out", corpus.unwrap_or_default());
        match all.iter_mut().find(|s| s.0 == name) {
            Some(s) => s.1.push((step, loss)),
            None => all.push((name, vec![(step, loss)])),
        }
    }
    all
}

/// How often each answer was given for each expected one.
fn matrix(title: &str, task: &Task) -> Result<String, String> {
    let mut names: Vec<String> = task.answers.iter().map(|a| a.expected.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let count = |expected: &String, said: &String| {
        task.answers.iter().filter(|a| a.expected == *expected && a.said == *said).count() as u64
    };
    let rows: Vec<Vec<u64>> = names.iter().map(|e| names.iter().map(|s| count(e, s)).collect()).collect();
    confusion(title, &names, &rows)
}

fn card(asked: &Asked) -> Card {
    let mark = if asked.said == asked.expected { "✓" } else { "✗" };
    let text = format!("{}\n{mark} {}\n(it is: {})", asked.question, asked.said, asked.expected);
    let shown = match asked.kind {
        Kind::Image => decode(&asked.bytes, &Limits::default())
            .map(|picture| image_card(asked.task, &text, &picture))
            .map_err(|e| e.to_string()),
        Kind::Video => video_card(asked.task, &text, &asked.bytes),
        Kind::Audio => sound_card(asked.task, &text, &asked.bytes),
    };
    shown.unwrap_or_else(|why| Card::new(asked.task, &format!("{text}\n{why}")))
}

fn line(entry: &Entry) -> Vec<String> {
    match entry {
        Entry::Said(text) => vec![format!("# {text}"), String::new()],
        Entry::Ran(line, seconds) => vec![line.clone(), format!("{seconds:.1}")],
        Entry::Wrote(path) => vec![format!("# wrote {}", path.display()), String::new()],
    }
}

fn drawing(work: &Work, why: String) -> Failure {
    Failure::Content { path: work.file("report.html"), why }
}

#[cfg(test)]
mod tests {
    use super::super::super::eval::Answer;
    use super::*;

    #[test]
    fn a_log_becomes_one_line_for_training_and_one_for_each_corpus() {
        let log = "{\"event\":\"step\",\"step\":1,\"loss\":4.0}\n{\"event\":\"step\",\"step\":2,\"loss\":2.0}\n\
                   {\"event\":\"evaluate\",\"step\":2,\"corpus\":\"a\",\"loss\":3.0}\nnot json\n\
                   {\"event\":\"evaluate\",\"step\":4,\"corpus\":\"a\",\"loss\":1.0}\n";
        let all = series(log);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].1, [(1.0, 4.0), (2.0, 0.95 * 4.0 + 0.05 * 2.0)]);
        assert_eq!(all[1], ("a, held out".to_string(), vec![(2.0, 3.0), (4.0, 1.0)]));
    }

    #[test]
    fn a_matrix_names_every_answer() {
        let answer = |expected: &str, said: &str| Answer {
            key: String::new(),
            question: String::new(),
            expected: expected.into(),
            said: said.into(),
        };
        let answers = vec![answer("animals", "animals"), answer("food", "animals"), answer("food", "<x>")];
        let task = Task { name: "t".into(), accuracy: 0.3, baseline: 0.6, n: 3, answers };
        let svg = matrix("t", &task).unwrap();
        assert!(svg.contains("animals") && svg.contains("food") && !svg.contains("<x>"), "{svg}");
    }
}
