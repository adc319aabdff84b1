//! From tokens to segments: the text between two timestamps, and how far the next window moves on.

use super::rules::Rules;

/// Seconds between two timestamp tokens.
const STEP: f64 = 0.02;
/// Frames between two timestamp tokens.
const STRIDE: usize = 2;

/// The text between two timestamps.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Seconds from the start of the window.
    pub start: f64,
    /// Seconds from the start of the window.
    pub end: f64,
    /// Tokens of text.
    pub tokens: Vec<i32>,
    /// The index of each of them among the tokens of the window.
    pub at: Vec<usize>,
}

/// The spans of one window of `frames` frames, and the frames after which the next window starts.
///
/// Where two timestamps stand together, one segment ends and the next starts. What comes after the last such pair was
/// cut by the window's end, and the next window starts there; a single timestamp at the end says that nothing follows.
pub fn split(rules: &Rules, tokens: &[i32], frames: usize) -> (Vec<Span>, usize) {
    let is_time = |&t: &i32| rules.is_timestamp(t);
    let position = |t: i32| t as usize - rules.timestamps();
    let seconds = |t: i32| position(t) as f64 * STEP;
    let span = |start: f64, end: f64, part: std::ops::Range<usize>| {
        let at: Vec<usize> = part.filter(|&i| (tokens[i] as usize) < rules.end).collect();
        Span { start, end, tokens: at.iter().map(|&i| tokens[i]).collect(), at }
    };
    let single_end = matches!(tokens, [.., a, b] if !is_time(a) && is_time(b));
    let mut cuts: Vec<usize> =
        (1..tokens.len()).filter(|&i| is_time(&tokens[i - 1]) && is_time(&tokens[i])).collect();
    let Some(&last_pair) = cuts.last() else {
        let last = tokens.iter().rev().copied().find(is_time).filter(|&t| position(t) > 0);
        let end = last.map_or_else(|| (frames / STRIDE) as f64 * STEP, seconds);
        return (vec![span(0.0, end, 0..tokens.len())], frames);
    };
    if single_end {
        cuts.push(tokens.len());
    }
    let mut from = 0;
    let spans = cuts
        .iter()
        .map(|&to| {
            let (part, range) = (&tokens[from..to], from..to);
            from = to;
            let time = |t: Option<&i32>| t.copied().filter(|t| is_time(t)).map_or(0.0, seconds);
            span(time(part.first()), time(part.last()), range)
        })
        .collect();
    // Without this, a window in which nothing was found would be transcribed again for ever.
    let advance = if single_end { frames } else { (position(tokens[last_pair - 1]) * STRIDE).min(frames) };
    (spans, if advance == 0 { frames } else { advance })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Made with transformers by `tests/golden/whisper_rules.py`.
    const GOLDEN: &str = include_str!("golden.json");

    #[derive(Deserialize)]
    struct Golden {
        end: usize,
        no_timestamps: usize,
        suppress: Vec<usize>,
        suppress_at_begin: Vec<usize>,
        max_initial: usize,
        rules: Vec<Rule>,
        segments: Vec<Segments>,
    }

    #[derive(Deserialize)]
    struct Rule {
        #[serde(rename = "said")]
        tokens: Vec<i32>,
        logits: Vec<f32>,
        kept: Vec<usize>,
    }

    #[derive(Deserialize)]
    struct Segments {
        tokens: Vec<i32>,
        frames: usize,
        spans: Vec<Expected>,
        advance: usize,
    }

    #[derive(Deserialize)]
    struct Expected {
        start: f64,
        end: f64,
        tokens: Vec<i32>,
    }

    fn golden() -> (Golden, Rules) {
        let g: Golden = serde_json::from_str(GOLDEN).unwrap();
        let rules = Rules {
            end: g.end,
            no_timestamps: g.no_timestamps,
            suppress: g.suppress.clone(),
            suppress_at_begin: g.suppress_at_begin.clone(),
            max_initial: Some(g.max_initial),
        };
        (g, rules)
    }

    #[test]
    fn what_may_follow_is_what_transformers_allows() {
        let (golden, rules) = golden();
        assert_eq!(golden.rules.len(), 27);
        for case in &golden.rules {
            let mut logits = case.logits.clone();
            rules.apply(&case.tokens, &mut logits);
            let kept: Vec<usize> = (0..logits.len()).filter(|&i| logits[i].is_finite()).collect();
            assert_eq!(kept, case.kept, "{:?}", case.tokens);
            assert!(kept.iter().all(|&i| logits[i] == case.logits[i]));
        }
    }

    #[test]
    fn segments_are_those_of_transformers() {
        let (golden, rules) = golden();
        assert_eq!(golden.segments.len(), 18);
        for case in &golden.segments {
            let (spans, advance) = split(&rules, &case.tokens, case.frames);
            assert_eq!((spans.len(), advance), (case.spans.len(), case.advance), "{:?}", case.tokens);
            for (span, expected) in spans.iter().zip(&case.spans) {
                assert!((span.start - expected.start).abs() < 1e-9, "{:?} {span:?}", case.tokens);
                assert!((span.end - expected.end).abs() < 1e-9, "{:?} {span:?}", case.tokens);
                assert_eq!(span.tokens, expected.tokens);
            }
        }
    }

    #[test]
    fn a_window_always_moves_on_and_a_small_vocabulary_is_no_panic() {
        let (_, rules) = golden();
        assert_eq!(split(&rules, &[21, 21], 100).1, 100);
        assert_eq!(split(&rules, &[], 100).0.len(), 1);
        for vocab in [0, 1, 15, 16, 21, 22] {
            let mut logits = vec![0.0; vocab];
            for tokens in [&[][..], &[21], &[21, 1], &[21, 1, 39]] {
                rules.apply(tokens, &mut logits);
            }
        }
    }
}
