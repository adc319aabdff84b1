//! Cutting a prompt into runs of few different widths.

use std::ops::Range;

/// Rows of the widest run, unless an image block is wider.
pub const CHUNK: usize = 512;

/// The width of the graph that `rows` run in: few widths, and little waste.
pub fn bucket(rows: usize) -> usize {
    match rows {
        0 | 1 => 1,
        2..=128 => rows.next_multiple_of(16),
        _ => rows.next_multiple_of(64),
    }
}

/// Tokens that a cache has room for when `tokens` are needed, `context` at most.
pub fn capacity(tokens: usize, context: usize) -> usize {
    let roomy =
        if tokens <= 2048 { tokens.next_power_of_two().max(256) } else { tokens.next_multiple_of(2048) };
    roomy.min(context.max(tokens))
}

/// The runs of a prompt of `rows`. A block of rows that see one another both ways is never cut: `block` gives a row's
/// block, negative for none.
pub fn chunks(rows: usize, block: impl Fn(usize) -> i32) -> Vec<Range<usize>> {
    let joined = |at: usize| at > 0 && at < rows && block(at) >= 0 && block(at) == block(at - 1);
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < rows {
        let mut end = (start + CHUNK).min(rows);
        while end > start && joined(end) {
            end -= 1;
        }
        if end == start {
            // The block alone is wider than a chunk.
            end = start + 1;
            while joined(end) {
                end += 1;
            }
        }
        cuts.push(start..end);
        start = end;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_few_and_close() {
        let widths: std::collections::BTreeSet<usize> = (1..=CHUNK).map(bucket).collect();
        assert!(widths.len() <= 16 && widths.contains(&1));
        assert!((1..=CHUNK).all(|n| bucket(n) >= n && bucket(n) <= (n + 15).max(n + n / 2)));
        assert!((1..5000).all(|n| capacity(n, 8192) >= n && capacity(n, 8192) <= 8192));
        assert_eq!((capacity(10, 100), capacity(2048, 8192), capacity(3000, 3500)), (100, 2048, 3500));
    }

    #[test]
    fn chunks_cover_the_prompt_and_keep_blocks_whole() {
        let none = |_| -1;
        assert!(chunks(0, none).is_empty());
        assert_eq!(chunks(1200, none), [0..512, 512..1024, 1024..1200]);
        let image = |at: usize| if (500..600).contains(&at) { 0 } else { -1 };
        assert_eq!(chunks(700, image), [0..500, 500..700]);
        let wide = |at: usize| if at < 600 { 3 } else { -1 };
        assert_eq!(chunks(601, wide), [0..600, 600..601]);
        let two = |at: usize| (at / 512) as i32;
        assert_eq!(chunks(1024, two), [0..512, 512..1024]);
    }
}
