//! What is done to logits before a token is chosen: transformers' logits processors, in its order, and two of OpenAI's.

use super::Sampling;

/// Lets no token of a list be chosen.
fn ban(logits: &mut [f32], ids: &[i32]) {
    for &id in ids {
        if let Some(x) = usize::try_from(id).ok().and_then(|id| logits.get_mut(id)) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Lets only the tokens of a list be chosen.
fn force(logits: &mut [f32], ids: &[i32]) {
    logits.fill(f32::NEG_INFINITY);
    for &id in ids {
        if let Some(x) = usize::try_from(id).ok().and_then(|id| logits.get_mut(id)) {
            *x = 0.0;
        }
    }
}

/// Makes tokens that occur less likely, or more: each once, however often it occurs.
fn penalize(logits: &mut [f32], ids: &[i32], penalty: f32) {
    let mut seen = vec![false; logits.len()];
    for &id in ids {
        let Some(id) = usize::try_from(id).ok().filter(|&id| id < logits.len() && !seen[id]) else {
            continue;
        };
        seen[id] = true;
        let x = &mut logits[id];
        *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
    }
}

/// Takes a number from tokens that occur, and another for each time that they do.
fn take_away(logits: &mut [f32], ids: &[i32], each: f32, once: f32) {
    let mut counts = vec![0u32; logits.len()];
    for id in ids.iter().filter_map(|&id| usize::try_from(id).ok()).filter(|&id| id < logits.len()) {
        counts[id] += 1;
    }
    for (x, count) in logits.iter_mut().zip(counts).filter(|(_, count)| *count > 0) {
        *x -= count as f32 * each + once;
    }
}

/// Bans what would make a group of `size` tokens that `among` has already.
fn ban_repeats(logits: &mut [f32], among: &[i32], ids: &[i32], size: usize) {
    if size == 0 || ids.len() + 1 < size {
        return;
    }
    let last = &ids[ids.len() + 1 - size..];
    for group in among.windows(size) {
        if group[..size - 1] == *last {
            ban(logits, &group[size - 1..]);
        }
    }
}

/// Adds a number to the last token of each sequence whose others stand at the end.
fn bias<'s>(logits: &mut [f32], ids: &[i32], sequences: impl Iterator<Item = (&'s [i32], f32)>) {
    // Sums first, as transformers does: minus infinity and another bias stay minus infinity.
    let mut sums = vec![0.0; logits.len()];
    let mut alone = vec![None; logits.len()];
    for (sequence, value) in sequences {
        let Some((last, before)) = sequence.split_last() else { continue };
        let Some(at) = usize::try_from(*last).ok().filter(|&at| at < logits.len()) else { continue };
        if before.is_empty() {
            alone[at] = Some(value);
        } else if ids.ends_with(before) {
            sums[at] += value;
        }
    }
    for ((x, sum), alone) in logits.iter_mut().zip(sums).zip(alone) {
        let added: f32 = sum + alone.unwrap_or(0.0);
        if added != 0.0 {
            *x += added;
        }
    }
}

/// Changes the logits of what follows `ids`, whose first `prompt` tokens are the prompt.
pub(super) fn process(s: &Sampling, ids: &[i32], prompt: usize, logits: &mut [f32]) {
    let new = ids.len() - prompt;
    if !s.sequence_bias.is_empty() {
        bias(logits, ids, s.sequence_bias.iter().map(|(sequence, value)| (sequence.as_slice(), *value)));
    }
    if s.encoder_repetition_penalty != 1.0 {
        penalize(logits, &ids[..prompt], 1.0 / s.encoder_repetition_penalty);
    }
    if s.repetition_penalty != 1.0 {
        penalize(logits, ids, s.repetition_penalty);
    }
    if s.frequency_penalty != 0.0 || s.presence_penalty != 0.0 {
        take_away(logits, &ids[prompt..], s.frequency_penalty, s.presence_penalty);
    }
    if ids.len() >= s.no_repeat_ngram_size {
        ban_repeats(logits, ids, ids, s.no_repeat_ngram_size);
    }
    ban_repeats(logits, &ids[..prompt], ids, s.encoder_no_repeat_ngram_size);
    if !s.bad_words.is_empty() {
        let ends = |word: &[i32]| matches!(word, [only] if s.ends.contains(only));
        let words = s.bad_words.iter().map(Vec::as_slice).filter(|word| !ends(word));
        bias(logits, ids, words.map(|word| (word, f32::NEG_INFINITY)));
    }
    if ids.len() < s.min_length || new < s.min_new_tokens {
        ban(logits, &s.ends);
    }
    if let (Some(first), 1) = (s.forced_first, ids.len()) {
        force(logits, &[first]);
    }
    if !s.forced_last.is_empty() && s.max_length.is_some_and(|most| ids.len() + 1 == most) {
        force(logits, &s.forced_last);
    }
    if s.remove_invalid {
        for x in logits.iter_mut() {
            *x = if x.is_nan() { 0.0 } else { x.clamp(f32::MIN, f32::MAX) };
        }
    }
    if let Some((start, factor)) = s.exponential_decay
        && new > start
    {
        let grown = factor.powi((new - start) as i32) - 1.0;
        let mut ends = s.ends.clone();
        ends.sort_unstable();
        ends.dedup();
        for end in ends {
            if let Some(x) = usize::try_from(end).ok().and_then(|id| logits.get_mut(id))
                && x.is_finite()
            {
                *x += (x.abs() as f64 * grown) as f32;
            }
        }
    }
    ban(logits, &s.suppressed);
    // A forced first token puts the beginning behind it.
    let begin = prompt + (prompt <= 1 && s.forced_first.is_some()) as usize;
    if ids.len() == begin {
        ban(logits, &s.suppressed_first);
    }
}
