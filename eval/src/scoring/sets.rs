//! Sets of questions that count as right when all of them are: the same question with its options in another order, or all questions
//! about one figure.

use std::collections::BTreeMap;

use super::{Answer, Scored};
use crate::task::Question;

/// The metrics whose answers are right or wrong.
pub(super) const METRICS: &[&str] = &["choice", "mmmu", "exact", "yes-no", "relaxed", "substring", "number"];

/// What each question contributes, sets among it: from place `width` on, two places for each kind of set. A set is counted at the first of
/// its questions, so that intervals, which draw whole groups, draw whole sets where the groups are not smaller.
pub(super) fn with_sets(
    width: usize,
    asked: &[(Question, Answer)],
    scored: &[Scored],
) -> Vec<Vec<(usize, f64)>> {
    let mut parts: Vec<Vec<(usize, f64)>> = scored.iter().map(|scored| scored.parts.clone()).collect();
    // By kind of set and its name: the first question of it, and whether all are right.
    let mut sets: BTreeMap<(usize, &str), (usize, bool)> = BTreeMap::new();
    for (at, ((question, _), scored)) in asked.iter().zip(scored).enumerate() {
        for (kind, name) in question.sets.iter().enumerate() {
            let (_, all) = sets.entry((kind, name.as_str())).or_insert((at, true));
            *all &= scored.value == 1.0;
        }
    }
    for ((kind, _), (first, all)) in sets {
        let place = width + 2 * kind;
        parts[first].extend([(place, 1.0), (place + 1, f64::from(u8::from(all)))]);
    }
    parts
}
