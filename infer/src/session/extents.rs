//! The extents of a step: few different ones, so that few graphs are compiled, and little waste.

use percept_model::Group;

/// Rows of a sequence that are read in one step where nothing else is said, unless an image block alone is wider.
pub const CHUNK: usize = 512;

/// Rows of a token with a few guesses.
const SMALL: usize = 8;

/// The extent of a graph in which `rows` rows of one sequence run.
pub fn bucket(rows: usize) -> usize {
    match rows {
        0 | 1 => 1,
        // A token with its guesses.
        2..=4 => 4,
        5..=SMALL => SMALL,
        ..=128 => rows.next_multiple_of(16),
        _ => rows.next_multiple_of(64),
    }
}

/// The extent of a graph in which `n` sequences run, a row each.
pub fn sequences_bucket(n: usize) -> usize {
    if n <= 8 { n.next_power_of_two() } else { n.next_multiple_of(8) }
}

/// The pages of the tables of sequences of which the longest needs `pages`.
pub fn table_bucket(pages: usize) -> usize {
    pages.next_power_of_two().max(4)
}

/// The groups of a step in which sequences have these numbers of rows, and the order in which the sequences stand in them;
/// `None` is padding. Sequences of one row come first, the others stand alone or with those whose rows have the same
/// extent; those of a few rows stand together.
pub fn groups(rows: &[usize]) -> (Vec<Group>, Vec<Option<usize>>) {
    // Tokens with different numbers of guesses stand together, so that few graphs are made of them.
    let is_small = |n: usize| (2..=SMALL).contains(&n);
    let small = rows.iter().copied().filter(|&n| is_small(n)).max().map_or(1, bucket);
    let width_of = |n: usize| if is_small(n) { small } else { bucket(n) };
    let mut widths: Vec<usize> = rows.iter().map(|&n| width_of(n)).collect();
    widths.sort_unstable();
    widths.dedup();
    let (mut groups, mut order) = (Vec::new(), Vec::new());
    for width in widths {
        let own: Vec<usize> = (0..rows.len()).filter(|&i| width_of(rows[i]) == width).collect();
        let sequences = if width == 1 { sequences_bucket(own.len()) } else { own.len() };
        groups.push(Group { sequences, rows: width });
        let slots = order.len() + sequences;
        order.extend(own.into_iter().map(Some));
        order.resize(slots, None);
    }
    (groups, order)
}

/// Rows of the next run of those that `block` gives the image blocks of, negative for none: `limit` at most, unless a block
/// of rows that see one another both ways is wider, for it is never cut.
pub fn next_run(rows: usize, limit: usize, block: impl Fn(usize) -> i32) -> usize {
    let joined = |at: usize| at > 0 && at < rows && block(at) >= 0 && block(at) == block(at - 1);
    let mut end = limit.max(1).min(rows);
    while end > 0 && joined(end) {
        end -= 1;
    }
    if end == 0 && rows > 0 {
        end = 1;
        while joined(end) {
            end += 1;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_few_and_close() {
        let widths: std::collections::BTreeSet<usize> = (1..=CHUNK).map(bucket).collect();
        assert!(widths.len() <= 18 && widths.contains(&1));
        assert!((1..=CHUNK).all(|n| bucket(n) >= n && bucket(n) <= (n + 15).max(n + n / 2)));
        let counts: std::collections::BTreeSet<usize> = (1..=64).map(sequences_bucket).collect();
        assert!(
            counts.len() <= 11
                && (1..=64).all(|n| sequences_bucket(n) >= n && sequences_bucket(n) < 2 * n.max(1))
        );
        assert_eq!([1, 4, 5, 33].map(table_bucket), [4, 4, 8, 64]);
    }

    #[test]
    fn sequences_of_one_row_share_a_group_and_others_have_theirs() {
        let (all, order) = groups(&[1, 300, 1, 17, 1, 20]);
        let group = |sequences, rows| Group { sequences, rows };
        assert_eq!(all, [group(4, 1), group(2, 32), group(1, 320)]);
        assert_eq!(order, [Some(0), Some(2), Some(4), None, Some(3), Some(5), Some(1)]);
        assert_eq!(groups(&[3, 1, 7]), (vec![group(1, 1), group(2, 8)], vec![Some(1), Some(0), Some(2)]));
        assert_eq!(groups(&[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn runs_cover_the_rows_and_keep_blocks_whole() {
        let runs = |rows: usize, block: &dyn Fn(usize) -> i32| {
            let (mut ends, mut at) = (Vec::new(), 0);
            while at < rows {
                at += next_run(rows - at, CHUNK, |i| block(at + i));
                ends.push(at);
            }
            ends
        };
        assert!(runs(0, &|_| -1).is_empty());
        assert_eq!(runs(1200, &|_| -1), [512, 1024, 1200]);
        assert_eq!(runs(700, &|at| if (500..600).contains(&at) { 0 } else { -1 }), [500, 700]);
        assert_eq!(runs(601, &|at| if at < 600 { 3 } else { -1 }), [600, 601]);
        assert_eq!(runs(1024, &|at| (at / 512) as i32), [512, 1024]);
    }
}
