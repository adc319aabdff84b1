//! `report.html`: scores, and the samples behind them, on one page that needs no other file and no network.

mod samples;

use percept_data::report::{Card, Page, confusion};
use serde_json::Value;

use crate::compare::{Compared, Differs};
use crate::error::{Error, Result};
use crate::metric::classes::ClassScores;
use crate::results::{Finished, document};
use samples::{Sample, cards, filtered};

/// A page over tasks.
///
/// # Errors
/// When the data cannot be read again, or a chart cannot be drawn.
pub fn page(finished: &[Finished], run: &Value) -> Result<String> {
    let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let title = format!("{} on {}", text("model"), text("device_name"));
    let names: Vec<&str> = finished.iter().map(|one| one.task.name.as_str()).collect();
    let mut page =
        Page::new(&title, &format!("Scores of {} with their 95 % intervals, and samples.", names.join(", ")));
    page.heading("Scores");
    let header = ["task", "score", "value", "from", "to", "questions", "unparsed", "failed"];
    let rows: Vec<Vec<String>> = finished.iter().flat_map(rows).collect();
    page.table(&header, &[2, 3, 4, 5, 6, 7], &rows);
    page.text(
        "Unparsed answers are those from which nothing could be read, failed questions those that could not be asked. Both count as wrong. \
         Intervals are of 1,000 draws of the questions, those that belong together drawn together.",
    );
    for one in finished {
        details(&mut page, one)?;
    }
    held(&mut page, finished);
    let mut samples = Vec::new();
    for one in finished {
        samples.extend(cards(one)?);
    }
    page.heading("Samples");
    page.html_of(&filtered(&samples, &["wrong", "unparsed", "failed"]));
    page.heading("What ran");
    page.file("manifest", &format!("{:#}", document(finished, run)["manifest"]));
    Ok(page.html())
}

/// How far the device strays from the reference, and where it first leaves it.
fn held(page: &mut Page, finished: &[Finished]) {
    let of = |one: &Finished| {
        let held = one.agreement.as_ref()?;
        let counts = [held.n, held.tokens].map(|count| count.to_string());
        let numbers = [format!("{:.4}", held.top1), format!("{:.2e}", held.kl)];
        Some(
            [vec![one.task.name.clone(), held.reference.clone()], counts.to_vec(), numbers.to_vec()].concat(),
        )
    };
    let rows: Vec<Vec<String>> = finished.iter().filter_map(of).collect();
    if rows.is_empty() {
        return;
    }
    page.heading("Agreement with the reference");
    page.table(
        &["task", "reference", "questions", "tokens", "same token", "divergence, nats"],
        &[2, 3, 4, 5],
        &rows,
    );
    page.text(
        "Same token is the share of the answers' tokens that the reference holds most likely too; the divergence is the mean of its distribution \
         from the device's.",
    );
    for one in finished {
        if let Some(explanation) = &one.explanation {
            page.text(&format!("{}: {explanation}", one.task.name));
        }
    }
}

fn rows(one: &Finished) -> Vec<Vec<String>> {
    let scores = &one.outcome.scores;
    let number = |value: f64| format!("{value:.4}");
    let row = |name: String| {
        let found = scores.metrics.get(&name)?;
        let counts = [scores.n, scores.unparsed, scores.failed].map(|count| count.to_string());
        let values = [found.value, found.low, found.high].map(number);
        Some([vec![one.task.name.clone(), name], values.to_vec(), counts.to_vec()].concat())
    };
    one.task.scores().into_iter().chain(["ece".to_owned()]).filter_map(row).collect()
}

/// Scores by category, and what was taken for what.
fn details(page: &mut Page, one: &Finished) -> Result<()> {
    let scores = &one.outcome.scores;
    for (column, values) in &scores.categories {
        page.heading(&format!("{} by {column}", one.task.name));
        let names = one.task.scores();
        let header: Vec<&str> = [column.as_str()]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .chain(["questions"])
            .collect();
        let numbers: Vec<usize> = (1..header.len()).collect();
        let rows: Vec<Vec<String>> = values
            .iter()
            .map(|(value, category)| {
                let scores = names
                    .iter()
                    .map(|name| format!("{:.4}", category.metrics.get(name).copied().unwrap_or(f64::NAN)));
                [vec![value.clone()], scores.collect(), vec![category.n.to_string()]].concat()
            })
            .collect();
        page.table(&header, &numbers, &rows);
    }
    if !scores.classes.is_empty() {
        page.heading(&format!("{} by class", one.task.name));
        let row = |class: &ClassScores| {
            let shares = [class.precision, class.sensitivity, class.specificity, class.f1];
            let shares = shares.map(|share| format!("{share:.4}"));
            [vec![class.class.clone(), class.support.to_string()], shares.to_vec()].concat()
        };
        let header = ["class", "samples", "precision", "recall, sensitivity", "specificity", "F1"];
        page.table(&header, &[1, 2, 3, 4, 5], &scores.classes.iter().map(row).collect::<Vec<_>>());
    }
    if let Some(found) = &scores.confusion {
        page.heading(&format!("{}: what was taken for what", one.task.name));
        let drawn = confusion(&one.task.name, &found.classes, &found.counts);
        let drawn = drawn.map_err(|why| Error::Task(format!("report.html: {why}")))?;
        page.figure(&drawn, "A row is the class that is right, a column the one that was given; the last column counts answers that are none.");
    }
    Ok(())
}

/// A page over two runs: what differs by task, and every question that they answered differently.
pub fn compared(tasks: &[Compared], runs: [&str; 2]) -> String {
    let mut page = Page::new(&format!("{} and {}", runs[0], runs[1]), "Two runs over the same questions.");
    page.heading("Differences");
    let number = |value: f64| format!("{value:.4}");
    let row = |task: &Compared| {
        let gain = task.difference.map_or([f64::NAN; 3], |gain| [gain.value, gain.low, gain.high]);
        let test = task.mcnemar.map_or_else(|| "-".into(), |test| number(test.p));
        let mut row = vec![task.task.clone(), task.n.to_string()];
        row.extend(task.means.into_iter().chain(gain).chain([task.p]).map(number));
        row.extend([test, task.differ.len().to_string()]);
        row
    };
    let header =
        ["task", "questions", "first", "second", "difference", "from", "to", "p", "McNemar's p", "differ"];
    page.table(&header, &[1, 2, 3, 4, 5, 6, 7, 8, 9], &tasks.iter().map(row).collect::<Vec<_>>());
    page.text("The difference is that of the mean scores, with its 95 % interval. p is how likely one so large is by chance, by flips of signs of groups; McNemar's is over right and wrong answers.");
    page.heading("Answers that differ");
    let mut samples = Vec::new();
    for task in tasks {
        let better = |one: &Differs| match one.scores[0].total_cmp(&one.scores[1]) {
            _ if one.scores[0] == one.scores[1] => None,
            order => Some(order.is_gt() == task.higher_is_better),
        };
        for one in task.differ.iter().take(samples::SHOWN) {
            let title = format!("{} {} · {:.2} and {:.2}", task.task, one.key, one.scores[0], one.scores[1]);
            let right = crate::metric::python::shown(&one.target);
            let text =
                format!("{}\n\nfirst: {}\nsecond: {}\nright: {right}", one.prompt, one.said[0], one.said[1]);
            let kinds = better(one).map(|first| BETTER[usize::from(!first)]);
            samples.push(Sample {
                task: task.task.clone(),
                kinds: kinds.into_iter().collect(),
                card: Card::new(&title, &text),
                given: None,
            });
        }
    }
    page.html_of(&filtered(&samples, &BETTER));
    page.html()
}

/// Which of two runs answered a question better, as the page has it.
const BETTER: [&str; 2] = ["better in the first", "better in the second"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_models_say_is_shown_and_never_run() {
        let differ = vec![Differs {
            doc_id: 0,
            key: "<b>".into(),
            prompt: "<script>alert(1)</script>".into(),
            target: json!("A"),
            said: ["<img src=x>".into(), "B".into()],
            scores: [0.0, 1.0],
        }];
        let task = Compared {
            task: "t".into(),
            n: 1,
            means: [0.0, 1.0],
            difference: None,
            p: 1.0,
            mcnemar: None,
            higher_is_better: true,
            differ,
        };
        let html = compared(&[task], ["a", "b"]);
        assert!(
            !html.contains("alert(1)</script>")
                && !html.contains("<img src=x")
                && html.contains("&lt;img src=x&gt;")
        );
        assert!(!html.contains("http"), "the page needs nothing from elsewhere");
    }
}
