//! Runs of values that llama.cpp has in another order than Hugging Face.

use std::iter::once;
use std::ops::Range;

/// In each period of so many values of a tensor: from `first` on lie [of, groups] runs of `unit` values each, which are
/// handed out as [groups, of]. What is before and behind them stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Regroup {
    pub period: usize,
    pub first: usize,
    pub unit: usize,
    pub groups: usize,
    pub of: usize,
}

impl Regroup {
    /// Whether a tensor of so many values consists of such periods.
    pub fn fits(self, numel: usize) -> bool {
        let runs = self.groups.checked_mul(self.of).and_then(|runs| runs.checked_mul(self.unit));
        let end = runs.and_then(|runs| runs.checked_add(self.first));
        self.unit > 0
            && self.period > 0
            && numel.is_multiple_of(self.period)
            && end.is_some_and(|end| end <= self.period)
    }

    /// Whether every run begins and ends where blocks of so many values do.
    pub fn is_whole(self, block: usize) -> bool {
        [self.period, self.first, self.unit].iter().all(|n| n.is_multiple_of(block))
    }

    /// The values of a period in the order in which they are handed out.
    pub fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let Regroup { period, first, unit, groups, of } = self;
        let at = move |group: usize, i: usize| first + (i * groups + group) * unit;
        let inner = (0..groups).flat_map(move |group| (0..of).map(move |i| at(group, i)));
        let last = first + groups * of * unit;
        let all = once(0..first).chain(inner.map(move |at| at..at + unit)).chain(once(last..period));
        all.filter(|run| !run.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_before_what_they_are_made_of() {
        let order = Regroup { period: 15, first: 1, unit: 2, groups: 3, of: 2 };
        assert!(order.fits(30) && !order.fits(20) && !Regroup { of: 3, ..order }.fits(30));
        let values: Vec<usize> = order.runs().flatten().collect();
        assert_eq!(values, [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12, 13, 14]);
        assert!(order.is_whole(1) && !order.is_whole(2));
    }
}
