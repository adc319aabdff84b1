//! `report.html`: scores, and the samples behind them, on one page that needs no other file and no network.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use percept_data::report::{Card, Page, audio_card, confusion, escape, image_card, video_card};
use percept_data::{Blob, Kind};
use percept_modalities::image::{Limits, decode};
use serde_json::Value;

use crate::compare::Compared;
use crate::error::{Error, Result};
use crate::results::{Finished, document};
use crate::run::Asked;
use crate::task::Task;

/// Samples of each task that the page shows: those that went wrong first.
const SHOWN: usize = 200;

/// A page over tasks, whose data lie in the folders beside them.
///
/// # Errors
/// When the data cannot be read again, or a chart cannot be drawn.
pub fn page(finished: &[(&Finished, &Path)], run: &Value) -> Result<String> {
    let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let title = format!("{} on {}", text("model"), text("device_name"));
    let names: Vec<&str> = finished.iter().map(|(one, _)| one.task.name.as_str()).collect();
    let mut page =
        Page::new(&title, &format!("Scores of {} with their 95 % intervals, and samples.", names.join(", ")));
    page.heading("Scores");
    let header = ["task", "score", "value", "from", "to", "questions", "unparsed", "failed"];
    let rows: Vec<Vec<String>> = finished.iter().flat_map(|(one, _)| rows(one)).collect();
    page.table(&header, &[2, 3, 4, 5, 6, 7], &rows);
    page.text(
        "Unparsed answers are those from which nothing could be read, failed questions those that could not be asked. Both count as wrong. \
         Intervals are of 1,000 draws of the questions, those that belong together drawn together.",
    );
    for (one, _) in finished {
        details(&mut page, one)?;
    }
    let mut samples = String::new();
    for (one, folder) in finished {
        samples.push_str(&cards(one, folder)?);
    }
    page.heading("What ran");
    page.file("manifest", &format!("{:#}", document(finished.iter().map(|(one, _)| *one), run)["manifest"]));
    // The page of the library ends here; what filters samples goes before its end.
    let controls = format!(
        "<h2>Samples</h2>\n{FILTERS}\n<div class=\"cards\" id=\"samples\">{samples}</div>\n{SCRIPT}\n"
    );
    Ok(page.html().replacen("</body>", &format!("{controls}</body>"), 1))
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
    if let Some(found) = &scores.confusion {
        page.heading(&format!("{}: what was taken for what", one.task.name));
        let drawn = confusion(&one.task.name, &found.classes, &found.counts);
        let drawn = drawn.map_err(|why| Error::Task(format!("report.html: {why}")))?;
        page.figure(&drawn, "A row is the class that is right, a column the one that was given; the last column counts answers that are none.");
    }
    Ok(())
}

/// The cards of a task's samples. Their media are read again, one row after the other.
fn cards(one: &Finished, folder: &Path) -> Result<String> {
    let asked = &one.outcome.asked;
    let is_wrong = |asked: &&Asked| asked.scored.value < 1.0;
    let wrong = asked.iter().filter(is_wrong);
    let right = asked.iter().filter(|asked| !is_wrong(asked));
    let shown: BTreeSet<usize> = wrong.chain(right).take(SHOWN).map(|asked| asked.question.id).collect();
    let mut out = String::new();
    let mut asked = asked.iter().filter(|asked| shown.contains(&asked.question.id)).peekable();
    for raw in one.task.questions(folder)? {
        let raw = raw?;
        let Some(next) = asked.next_if(|asked| asked.question.id == raw.id) else {
            if asked.peek().is_none() {
                break;
            }
            continue;
        };
        let media = one.task.question(&raw)?.media.unwrap_or_default();
        out.push_str(&card(&one.task, next, &media));
    }
    Ok(out)
}

fn card(task: &Task, asked: &Asked, media: &[Blob]) -> String {
    let Asked { question, line, scored } = asked;
    let title = format!("{} {} · {:.2}", task.name, question.key, scored.value);
    let said = match &line.answer.failed {
        Some(why) => format!("not asked: {why}"),
        None if line.answer.said.is_empty() => "(nothing)".into(),
        None => line.answer.said.clone(),
    };
    let read = match &scored.read {
        Some(read) if *read != line.answer.said => format!("\nread as: {read}"),
        _ => String::new(),
    };
    let text =
        format!("{}\n\nsaid: {said}{read}\nright: {}", question.prompt, question.right.texts.join(" | "));
    let mut shown = Card::new(&title, &text);
    for blob in media.iter().rev() {
        let figure = match blob.kind {
            Kind::Image => decode(&blob.bytes, &Limits::default())
                .map(|image| image_card("", "", &image))
                .map_err(|e| e.to_string()),
            Kind::Video => video_card("", "", &blob.bytes),
            Kind::Audio => audio_card("", "", &blob.bytes),
        };
        if let Ok(figure) = figure {
            shown = shown.with(figure);
        }
    }
    let mut classes = String::new();
    for (name, is) in [
        ("wrong", scored.value < 1.0),
        ("unparsed", scored.unparsed),
        ("failed", line.answer.failed.is_some()),
    ] {
        if is {
            // Writing into a string cannot fail.
            let _ = write!(classes, " {name}");
        }
    }
    format!("<div class=\"sample{classes}\" data-task=\"{}\">{}</div>", escape(&task.name), shown.html())
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
    let mut cards = Vec::new();
    for task in tasks {
        for one in task.differ.iter().take(SHOWN) {
            let title = format!("{} {} · {:.2} and {:.2}", task.task, one.key, one.scores[0], one.scores[1]);
            let right = crate::metric::python::shown(&one.target);
            let text =
                format!("{}\n\nfirst: {}\nsecond: {}\nright: {right}", one.prompt, one.said[0], one.said[1]);
            cards.push(Card::new(&title, &text));
        }
    }
    page.cards(&cards);
    page.html()
}

const FILTERS: &str = "<p><label>Show <select id=\"filter\"><option value=\"\">all</option><option>wrong</option>\
    <option>unparsed</option><option>failed</option></select></label> \
    <label>with <input id=\"words\" type=\"search\" placeholder=\"these words\"></label> <span id=\"count\" role=\"status\"></span></p>";

const SCRIPT: &str = "<script>
const samples = [...document.querySelectorAll('.sample')];
const filter = document.getElementById('filter'), words = document.getElementById('words'), count = document.getElementById('count');
function show() {
  const kind = filter.value, text = words.value.toLowerCase();
  let shown = 0;
  for (const sample of samples) {
    const is = (!kind || sample.classList.contains(kind)) && (!text || sample.textContent.toLowerCase().includes(text));
    sample.hidden = !is;
    shown += is;
  }
  count.textContent = shown + ' of ' + samples.length + ' samples';
}
filter.addEventListener('change', show);
words.addEventListener('input', show);
show();
</script>";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compare::Differs;

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
            differ,
        };
        let html = compared(&[task], ["a", "b"]);
        assert!(
            !html.contains("<script>") && !html.contains("<img src=x") && html.contains("&lt;img src=x&gt;")
        );
        assert!(!html.contains("http"), "the page needs nothing from elsewhere");
        assert!(!format!("{FILTERS}{SCRIPT}").contains("http"));
    }
}
