//! The same questions on several devices: where their answers differ.

use serde::Serialize;

use crate::results::Finished;

/// How far apart two scores of one answer may be where nothing differs but rounding.
const ROUNDING: f64 = 1e-6;

/// Questions of a task that two devices answer differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differing {
    /// The task.
    pub task: String,
    /// The devices.
    pub devices: [String; 2],
    /// Questions that both were asked.
    pub n: usize,
    /// The numbers of those that they answer differently.
    pub doc_ids: Vec<usize>,
    /// Those of them that the first alone answers better, and those that the second alone does.
    pub better: [usize; 2],
}

/// Hold what came of the same tasks on two devices to one another.
pub fn differing(first: (&str, &[Finished]), second: (&str, &[Finished])) -> Vec<Differing> {
    let pairs = first.1.iter().zip(second.1).filter(|(a, b)| a.task.name == b.task.name);
    let of_task = |(a, b): (&Finished, &Finished)| {
        let mut found = Differing {
            task: a.task.name.clone(),
            devices: [first.0.to_owned(), second.0.to_owned()],
            n: 0,
            doc_ids: Vec::new(),
            better: [0; 2],
        };
        let is_better = |more: f64, less: f64| {
            let names = a.task.metric.names();
            let sign = if names.first().is_none_or(|name| crate::scoring::Metric::higher_is_better(name)) {
                1.0
            } else {
                -1.0
            };
            sign * (more - less) > ROUNDING
        };
        // Both are in the order of the questions.
        let mut others = b.outcome.asked.iter().peekable();
        for one in &a.outcome.asked {
            while others.next_if(|other| other.question.id < one.question.id).is_some() {}
            let Some(other) = others.next_if(|other| other.question.id == one.question.id) else { continue };
            found.n += 1;
            let (value, its) = (one.scored.value, other.scored.value);
            let is_other = one.line.answer.said != other.line.answer.said || (value - its).abs() > ROUNDING;
            if is_other {
                found.doc_ids.push(one.question.id);
                found.better[0] += usize::from(is_better(value, its));
                found.better[1] += usize::from(is_better(its, value));
            }
        }
        found
    };
    pairs.map(of_task).collect()
}
