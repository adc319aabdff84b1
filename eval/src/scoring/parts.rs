//! What single answers contribute to the sums, and what sums of classes come to.

use super::{Answer, OVERLAPS, Scored};
use crate::metric::classes::{Confusion, quotient};
use crate::metric::{Compat, boxes, caption, choice};
use crate::task::Question;

pub(super) fn share(value: f64, read: String) -> Scored {
    Scored { value, read: Some(read), unparsed: false, parts: vec![(0, 1.0), (1, value)] }
}

pub(super) fn flag(is_right: bool, said: &str) -> Scored {
    share(f64::from(u8::from(is_right)), said.to_owned())
}

pub(super) fn chosen(found: Option<usize>, right: usize) -> Scored {
    let scored = share(f64::from(u8::from(found == Some(right))), String::new());
    Scored { read: found.map(choice::letter), unparsed: found.is_none(), ..scored }
}

pub(super) fn yes_or_no(said: Option<bool>, right: Option<bool>, compat: Compat) -> Scored {
    let (is_right, right) = (said == right && said.is_some(), right == Some(true));
    let said_yes = said == Some(true);
    let verbatim = compat == Compat::LmmsEval;
    // lmms-eval misses only what was answered with no, and counts how often yes is right rather than said.
    let missed = right && if verbatim { said == Some(false) } else { !said_yes };
    let yes = if verbatim { right } else { said_yes };
    let flags = [true, is_right, right && said_yes, !right && said_yes, missed, yes];
    let parts = flags.iter().enumerate().map(|(at, flag)| (at, f64::from(u8::from(*flag)))).collect();
    let read = said.map(|said| if said { "yes" } else { "no" }.to_owned());
    Scored { value: f64::from(u8::from(is_right)), unparsed: read.is_none(), read, parts }
}

pub(super) fn in_box(found: Option<boxes::Corners>, right: boxes::Corners) -> Scored {
    let corners = found.unwrap_or_default();
    let overlap = boxes::iou(right, corners);
    let flag = |is: bool| f64::from(u8::from(is));
    let centred = found.is_some() && boxes::is_centred(right, corners);
    let mut parts = vec![(0, 1.0), (1, overlap)];
    parts.extend(OVERLAPS.iter().enumerate().map(|(at, (_, least))| (at + 2, flag(overlap >= *least))));
    parts.push((7, flag(centred)));
    let read = found.map(|corners| format!("{corners:?}"));
    Scored { value: overlap, unparsed: found.is_none(), read, parts }
}

pub(super) fn captions(asked: &[(Question, Answer)]) -> Vec<Scored> {
    let cut = |(question, answer): &(Question, Answer)| {
        let references = question.right.texts.iter().map(|text| caption::tokens(text)).collect();
        (caption::tokens(&answer.said), references)
    };
    let all: Vec<(Vec<String>, Vec<Vec<String>>)> = asked.iter().map(cut).collect();
    let score = |(cider, (text, references)): (f64, &(Vec<String>, Vec<Vec<String>>))| {
        let rouge = caption::rouge_l(text, references);
        let counts = caption::Counts::of(text, references).parts();
        let parts = [1.0, cider, rouge].into_iter().chain(counts).enumerate().collect();
        Scored { value: cider, read: Some(text.join(" ")), unparsed: false, parts }
    };
    caption::cider(&all).into_iter().zip(&all).map(score).collect()
}

/// The classes that a task or its data name, in order.
pub(super) fn known_classes(given: &[String], asked: &[(Question, Answer)]) -> Vec<String> {
    let own = asked.iter().filter_map(|(question, _)| Some(question.right.texts.first()?.trim().to_owned()));
    let mut classes: Vec<String> = given.iter().cloned().chain(own).collect();
    classes.sort();
    classes.dedup();
    classes
}

pub(super) fn of_class(classes: &[String], question: &Question, answer: &Answer) -> Scored {
    let place = |text: &str| {
        classes.iter().position(|class| class.eq_ignore_ascii_case(text.trim().trim_end_matches('.')))
    };
    let right = question.right.texts.first().and_then(|text| place(text)).unwrap_or(0);
    let said =
        answer.chosen.and_then(|at| question.options.get(at)).map_or(answer.said.as_str(), String::as_str);
    let found = place(said);
    let column = found.unwrap_or(classes.len());
    Scored {
        value: f64::from(u8::from(found == Some(right))),
        read: found.map(|at| classes[at].clone()),
        unparsed: found.is_none(),
        parts: vec![(right * (classes.len() + 1) + column, 1.0)],
    }
}

/// Rows of classes of a confusion matrix, one after the other.
pub(super) fn rows(sums: &[f64]) -> std::slice::Chunks<'_, f64> {
    // k * (k + 1) places have rows of k + 1.
    let side = (0..).take_while(|k| k * (k + 1) <= sums.len()).last().unwrap_or(0);
    sums.chunks(side + 1)
}

pub(super) fn of_classes(sums: &[f64]) -> Vec<f64> {
    let all: f64 = sums.iter().sum();
    let right: f64 = rows(sums).enumerate().map(|(at, row)| row[at]).sum();
    let (mut recalls, mut scores) = (Vec::new(), Vec::new());
    for (at, row) in rows(sums).enumerate() {
        let (support, given): (f64, f64) = (row.iter().sum(), rows(sums).map(|row| row[at]).sum());
        if support > 0.0 {
            recalls.push(row[at] / support);
        }
        scores.push(quotient(2.0 * row[at], support + given));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    vec![right / all, mean(&recalls), mean(&scores)]
}

pub(super) fn confusion(classes: &[String], scored: &[Scored]) -> Confusion {
    let mut confusion = Confusion::new(classes.to_vec());
    for (place, _) in scored.iter().flat_map(|scored| &scored.parts) {
        confusion.counts[place / (classes.len() + 1)][place % (classes.len() + 1)] += 1;
    }
    confusion
}
