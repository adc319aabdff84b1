//! Samples on a page: what was asked, said and right, with its media, and what shows some of them alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use percept_data::report::{Card, audio_card, escape, image_card, video_card};
use percept_data::{Blob, Kind};
use percept_modalities::image::{Limits, decode};

use crate::error::Result;
use crate::results::Finished;
use crate::run::Asked;
use crate::scoring::Metric;
use crate::task::Task;

/// Samples of each task that a page shows: those that went wrong first.
pub(super) const SHOWN: usize = 200;

/// A sample on a page.
pub(super) struct Sample {
    pub task: String,
    /// The kinds that it is of, each of which can be shown alone.
    pub kinds: Vec<&'static str>,
    pub card: Card,
    /// What the model was given, folded away.
    pub given: Option<String>,
}

/// The samples of a task. Their media are read again, one row after the other.
pub(super) fn cards(one: &Finished) -> Result<Vec<Sample>> {
    let asked = &one.outcome.asked;
    let is_wrong = |asked: &&Asked| is_wrong(&one.task, asked);
    let wrong = asked.iter().filter(is_wrong);
    let right = asked.iter().filter(|asked| !is_wrong(asked));
    let shown: BTreeSet<usize> = wrong.chain(right).take(SHOWN).map(|asked| asked.question.id).collect();
    let mut out = Vec::new();
    let mut asked = asked.iter().filter(|asked| shown.contains(&asked.question.id)).peekable();
    for raw in one.task.questions(&one.folder)? {
        let raw = raw?;
        let Some(next) = asked.next_if(|asked| asked.question.id == raw.id) else {
            if asked.peek().is_none() {
                break;
            }
            continue;
        };
        let media = one.task.question(&raw)?.media.unwrap_or_default();
        out.push(sample(&one.task, next, &media));
    }
    Ok(out)
}

/// Whether an answer is not as good as one can be: error rates are best at 0.
fn is_wrong(task: &Task, asked: &Asked) -> bool {
    match task.metric.names().first().is_none_or(|name| Metric::higher_is_better(name)) {
        true => asked.scored.value < 1.0,
        false => asked.scored.value > 0.0,
    }
}

fn sample(task: &Task, asked: &Asked, media: &[Blob]) -> Sample {
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
    let mut card = Card::new(&title, &text);
    for blob in media.iter().rev() {
        let figure = match blob.kind {
            Kind::Image => decode(&blob.bytes, &Limits::default())
                .map(|image| image_card("", "", &image))
                .map_err(|e| e.to_string()),
            Kind::Video => video_card("", "", &blob.bytes),
            Kind::Audio => audio_card("", "", &blob.bytes),
        };
        if let Ok(figure) = figure {
            card = card.with(figure);
        }
    }
    let kinds = [
        ("wrong", is_wrong(task, asked)),
        ("unparsed", scored.unparsed),
        ("failed", line.answer.failed.is_some()),
    ];
    let given = &line.given;
    // Transcribers and embedders are given no prompt.
    let given = (!given.prompt.is_empty())
        .then(|| format!("{}\n\n{} tokens\n{:#}", given.prompt, given.prompt_tokens, given.media));
    Sample {
        task: task.name.clone(),
        kinds: kinds.into_iter().filter_map(|(kind, is)| is.then_some(kind)).collect(),
        card,
        given,
    }
}

/// Samples side by side, with what shows those of a kind or a task, or with some words, alone.
pub(super) fn filtered(samples: &[Sample], kinds: &[&str]) -> String {
    let tasks: BTreeSet<&str> = samples.iter().map(|sample| sample.task.as_str()).collect();
    let mut out = String::from("<p class=\"filters\">");
    out.push_str(&choice("kind", "Show", kinds));
    if tasks.len() > 1 {
        out.push_str(&choice("task", "of", &tasks.into_iter().collect::<Vec<_>>()));
    }
    out.push_str(
        "<label>with <input id=\"words\" type=\"search\" placeholder=\"these words\"></label> \
         <span id=\"count\" role=\"status\"></span></p>\n<div class=\"cards\" id=\"samples\">",
    );
    for Sample { task, kinds, card, given } in samples {
        let (task, kinds) = (escape(task), escape(&kinds.join(",")));
        let given = given.as_ref().map(|given| {
            let given = escape(given);
            format!("<details><summary>what the model was given</summary><pre tabindex=\"0\">{given}</pre></details>")
        });
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "<div class=\"sample\" data-task=\"{task}\" data-kinds=\"{kinds}\">{}{}</div>",
            card.html(),
            given.unwrap_or_default()
        );
    }
    out.push_str("</div>\n");
    out.push_str(SCRIPT);
    out
}

/// One of some words, or all.
fn choice(id: &str, label: &str, words: &[&str]) -> String {
    let options: String = words.iter().map(|word| format!("<option>{}</option>", escape(word))).collect();
    format!("<label>{label} <select id=\"{id}\"><option value=\"\">all</option>{options}</select></label> ")
}

const SCRIPT: &str = "<script>
const samples = [...document.querySelectorAll('.sample')];
const kind = document.getElementById('kind'), task = document.getElementById('task');
const words = document.getElementById('words'), count = document.getElementById('count');
function show() {
  const text = words.value.toLowerCase();
  let shown = 0;
  for (const sample of samples) {
    const is = (!kind.value || sample.dataset.kinds.split(',').includes(kind.value))
      && (!task?.value || sample.dataset.task === task.value)
      && (!text || sample.textContent.toLowerCase().includes(text));
    sample.hidden = !is;
    shown += is;
  }
  count.textContent = shown + ' of ' + samples.length + ' samples';
}
kind.addEventListener('change', show);
task?.addEventListener('change', show);
words.addEventListener('input', show);
show();
</script>
";
