//! `report.html`: what was done and what came of it, on one page that needs no other file.

use percept::data::Kind;
use percept::data::report::{Card, Page, Series, audio_card, confusion, image_card, lines, video_card};
use percept::eval::corpus::Task;
use percept::modalities::image::{Limits, decode};
use serde_json::Value;

use super::answers::Answered;
use super::command::Entry;
use super::results::Results;
use super::runs::{FLAGS, GENERAL, Work};
use crate::cli::Failure;
use crate::cli::failure::read_text;

/// The report as one HTML page.
///
/// # Errors
/// When a log cannot be read.
pub fn page(work: &Work, results: &Results, answered: &[Answered], log: &[Entry]) -> Result<String, Failure> {
    let subtitle = format!(
        "One multimodal model of text, images, video and audio, trained from scratch on {} and then fine-tuned on flags. \
         Scale {}, seed {}, {:.0} seconds from the first command to the last. The files and commands at the end of this \
         page make it again.",
        results.device, results.scale, results.seed, results.seconds
    );
    let mut page = Page::new(&title(results), &subtitle);
    page.heading("Scores on held-out questions");
    page.table(
        &["task", "most frequent answer", "after pretraining", "after fine-tuning", "questions"],
        &[1, 2, 3, 4],
        &scores(results),
    );
    page.text(
        "Accuracy on questions that training did not see: an answer counts when it equals the expected one word for word. \
         The second column is what always giving the most frequent answer would score. Fine-tuning mixes flags with some \
         of the earlier tasks; what it costs those is the difference between the last two scores.",
    );
    page.heading("Loss");
    let explained = "Cross-entropy of the answers' tokens, in nats, by training step; lower is better. The training line is \
                     smoothed over about 20 steps. The others are measured on held-out samples; where they rise while the \
                     training line falls, the model memorizes.";
    for (run, title) in [("pretrain", "Pretraining"), ("finetune", "Fine-tuning to flags")] {
        page.figure(&curve(work, run, title)?, explained);
    }
    page.heading("Which categories are taken for which");
    let explained = "A confusion matrix of the held-out emoji. A row is the category that is right, a column the one that \
                     the model gave; the number counts emoji. Blue on the diagonal is right, red beside it is wrong, darker \
                     where it is a larger share of its row. The last column counts answers that are no such category.";
    for (tasks, when) in [(&results.before, "After pretraining"), (&results.after, "After fine-tuning")] {
        if let Some(task) = tasks.iter().find(|t| t.name == GENERAL[0]) {
            page.figure(&matrix(when, task).map_err(|why| drawing(work, why))?, explained);
        }
    }
    page.heading("Questions about held-out files");
    page.text(
        "Each file as the fine-tuned model was given it, with its answer and the expected one. Clips and audio play. Under \
         audio are its waveform (loudness over time) and its spectrogram (pitch from bottom to top, brighter is louder).",
    );
    page.cards(&answered.iter().map(card).collect::<Vec<_>>());
    page.heading("Make it again");
    page.text(
        "The commands in their order. Save the files below under their names before the command that names them; with the \
         same version of Percept, device and seed the scores are the same.",
    );
    page.table(&["command", "seconds"], &[1], &log.iter().map(line).collect::<Vec<_>>());
    for path in log.iter().filter_map(|entry| if let Entry::Wrote(path) = entry { Some(path) } else { None })
    {
        page.file(&path.display().to_string(), &read_text(path)?);
    }
    Ok(page.html())
}

/// What it is, and what came of it.
fn title(results: &Results) -> String {
    let flags = [false, true].map(|after| results.score(FLAGS, after).map_or(0.0, |s| 100.0 * s.accuracy));
    let better =
        GENERAL.iter().filter(|task| results.score(task, false).is_some_and(|s| s.accuracy > s.baseline));
    format!(
        "Percept demo: flags from {:.0}\u{a0}% to {:.0}\u{a0}% by fine-tuning, {} of {} general tasks learnt",
        flags[0],
        flags[1],
        better.count(),
        GENERAL.len()
    )
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
    let count = |expected: &String, given: &String| {
        task.answers.iter().filter(|a| a.expected == *expected && a.said == *given).count() as u64
    };
    let row = |expected: &String| {
        let mut counts: Vec<u64> = names.iter().map(|said| count(expected, said)).collect();
        let all = task.answers.iter().filter(|a| a.expected == *expected).count() as u64;
        counts.push(all - counts.iter().sum::<u64>());
        counts
    };
    let rows: Vec<Vec<u64>> = names.iter().map(row).collect();
    confusion(title, &names, &rows)
}

fn card(answered: &Answered) -> Card {
    let mark = if answered.answer == answered.expected { "✓" } else { "✗" };
    let said = if answered.answer.is_empty() { "(no word)" } else { &answered.answer };
    let text = format!("{}\n{mark} {said}\n(it is: {})", answered.question, answered.expected);
    let shown = match answered.kind {
        Kind::Image => decode(&answered.bytes, &Limits::default())
            .map(|image| image_card(answered.task, &text, &image))
            .map_err(|e| e.to_string()),
        Kind::Video => video_card(answered.task, &text, &answered.bytes),
        Kind::Audio => audio_card(answered.task, &text, &answered.bytes),
    };
    shown.unwrap_or_else(|why| Card::new(answered.task, &format!("{text}\n{why}")))
}

fn line(entry: &Entry) -> Vec<String> {
    match entry {
        Entry::Heading(text) => vec![format!("# {text}"), String::new()],
        Entry::Ran(line, seconds) => vec![line.clone(), format!("{seconds:.1}")],
        Entry::Wrote(path) => vec![format!("# wrote {}", path.display()), String::new()],
    }
}

fn drawing(work: &Work, why: String) -> Failure {
    Failure::Content { path: work.file("report.html"), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percept::eval::corpus::Answer;

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
        let answer = |expected: &str, given: &str| Answer {
            key: String::new(),
            question: String::new(),
            expected: expected.into(),
            said: given.into(),
        };
        let answers = vec![answer("animals", "animals"), answer("food", "animals"), answer("food", "<x>")];
        let task = Task { name: "t".into(), accuracy: 0.3, baseline: 0.6, n: 3, answers };
        let svg = matrix("t", &task).unwrap();
        assert!(svg.contains("animals") && svg.contains("food") && !svg.contains("<x>"), "{svg}");
    }
}
