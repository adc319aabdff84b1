//! Ranks: retrieval and correlation.

/// The share of queries with a right answer among the first `k` of their ranking. `ranks` are the places, from 0, of the best
/// right answer of each query.
pub fn recall(ranks: &[usize], k: usize) -> f64 {
    share(ranks.iter().filter(|rank| **rank < k).count(), ranks.len())
}

/// The place, from 0, of the first right answer when answers are sorted by similarity, largest first. Of equal similarities
/// those that are wrong come first, so that a model that finds all alike is not rewarded.
pub fn rank(similarities: &[f64], is_right: impl Fn(usize) -> bool) -> Option<usize> {
    let best =
        (0..similarities.len()).filter(|at| is_right(*at)).map(|at| similarities[at]).reduce(f64::max)?;
    let before = |at: &usize| !is_right(*at) && similarities[*at].total_cmp(&best).is_ge();
    Some((0..similarities.len()).filter(before).count())
}

/// Spearman's correlation of two series: Pearson's of their ranks, equal values sharing theirs. `None` where one of them is
/// constant, or they have no two values, or not equally many.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranked(a), &ranked(b))
}

/// Pearson's correlation of two series; `None` as [`spearman`].
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 {
        return None;
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (middle_a, middle_b) = (mean(a), mean(b));
    let moment = |x: &[f64], x0: f64, y: &[f64], y0: f64| {
        x.iter().zip(y).map(|(x, y)| (x - x0) * (y - y0)).sum::<f64>()
    };
    let spread = moment(a, middle_a, a, middle_a) * moment(b, middle_b, b, middle_b);
    (spread > 0.0).then(|| moment(a, middle_a, b, middle_b) / spread.sqrt())
}

/// The rank of each value, from 1; equal values have the mean of theirs.
fn ranked(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let equal = order[from..].iter().take_while(|at| values[**at] == values[order[from]]).count().max(1);
        let rank = from as f64 + (equal as f64 + 1.0) / 2.0;
        order[from..from + equal].iter().for_each(|at| ranks[*at] = rank);
        from += equal;
    }
    ranks
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_answers_come_first_among_equals() {
        assert_eq!(rank(&[0.5, 0.5, 0.1], |at| at == 0), Some(1));
        assert_eq!(rank(&[0.5, 0.9, 0.1], |at| at == 2), Some(2));
        assert_eq!(rank(&[0.5], |_| false), None);
        assert_eq!([recall(&[0, 1, 5], 1), recall(&[0, 1, 5], 5)], [1.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
