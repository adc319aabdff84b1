//! Draws follow the distribution that the settings define: 20,000 draws at fixed logits, batched and alone, against
//! probabilities that are worked out here by definition.

use std::collections::HashMap;

use percept::infer::{
    Event, GenerateOptions, Request, Sampler, Sampling, Scheduler, SchedulerOptions, SessionOptions,
};

use crate::devices;
use crate::sessions::{case, session, text};

const DRAWS: u64 = 20_000;

/// Probabilities of the softmax of logits divided by a temperature, then of the `top_k` greatest alone, then of the fewest
/// greatest that sum to `top_p` alone, then of those of at least `min_p` times the greatest alone.
fn by_definition(logits: &[f32], s: &Sampling) -> Vec<f64> {
    let mut p: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / f64::from(s.temperature)).exp()).collect();
    normalize(&mut p);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    if s.top_k > 0 {
        order[s.top_k.min(p.len())..].iter().for_each(|&i| p[i] = 0.0);
        normalize(&mut p);
    }
    let mut sum = 0.0;
    for &i in &order {
        let is_in = sum < f64::from(s.top_p);
        sum += p[i];
        if !is_in {
            p[i] = 0.0;
        }
    }
    normalize(&mut p);
    let least = f64::from(s.min_p) * p[order[0]];
    p.iter_mut().filter(|p| **p < least).for_each(|p| *p = 0.0);
    normalize(&mut p);
    p
}

fn normalize(p: &mut [f64]) {
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
}

/// The chance of a chi-square as large as this one, or larger, with `k` degrees of freedom: one minus the series of the
/// lower incomplete gamma function.
fn chance(x: f64, k: usize) -> f64 {
    let (a, x) = (k as f64 / 2.0, x / 2.0);
    // ln of gamma(a + 1), from gamma(1) or gamma(1/2).
    let mut ln_gamma = if k.is_multiple_of(2) { 0.0 } else { std::f64::consts::PI.sqrt().ln() };
    let mut at = if k.is_multiple_of(2) { 1.0 } else { 0.5 };
    while at < a + 0.75 {
        ln_gamma += f64::ln(at);
        at += 1.0;
    }
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..10_000 {
        term *= x / (a + n as f64);
        sum += term;
    }
    1.0 - (a * x.ln() - x - ln_gamma + f64::ln(sum)).exp()
}

/// The chance that counts this far from what is expected come about, with those of fewer than 5 expected together.
fn fit(counts: &HashMap<i32, u64>, p: &[f64]) -> f64 {
    let (mut rare, mut bins) = ((0.0, 0.0), Vec::new());
    for (id, p) in p.iter().enumerate() {
        let (count, expected) = (counts.get(&(id as i32)).copied().unwrap_or(0) as f64, p * DRAWS as f64);
        if *p == 0.0 {
            assert_eq!(count, 0.0, "token {id} cannot be drawn");
        } else if expected < 5.0 {
            rare = (rare.0 + count, rare.1 + expected);
        } else {
            bins.push((count, expected));
        }
    }
    if rare.1 >= 5.0 {
        bins.push(rare);
    }
    assert!(bins.len() > 2, "too few tokens can be drawn");
    chance(bins.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum(), bins.len() - 1)
}

#[test]
fn the_chance_of_a_chi_square_is_that_of_the_tables() {
    // Upper critical values as tables print them.
    for (k, x, p) in
        [(1, 3.841, 0.05), (2, 5.991, 0.05), (10, 23.209, 0.01), (30, 59.703, 0.001), (99, 148.23, 0.001)]
    {
        assert!((chance(x, k) - p).abs() < 1e-3 * p.max(0.05), "{k}: {}", chance(x, k));
    }
}

#[test]
fn draws_follow_the_distribution_batched_and_alone() {
    let case = case("llama");
    let mut session = session(&case, &devices::device("cpu"), SessionOptions::default());
    let vocab = session.model().decoder().vocab;
    let inputs = text(&case, vocab, 1, 3);
    let (_, logits) = session.prefill(&inputs, 0, 0).unwrap();
    // A temperature at which some tokens are likely and none is certain.
    let mean = logits.iter().sum::<f32>() / vocab as f32;
    let spread = (logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / vocab as f32).sqrt();
    let hot = Sampling { temperature: spread / 1.5, ..Sampling::default() };
    let settings = [
        ("temperature", hot.clone()),
        ("top-k", Sampling { top_k: 12, ..hot.clone() }),
        ("top-p", Sampling { top_p: 0.8, ..hot.clone() }),
        ("min-p", Sampling { min_p: 0.1, ..hot.clone() }),
        ("all", Sampling { top_k: 40, top_p: 0.9, min_p: 0.15, ..hot }),
    ];
    let options = SchedulerOptions { running: 64, waiting: 64, prompt_rows: 64 };
    let mut scheduler = Scheduler::new(session, options).unwrap();
    for (name, sampling) in settings {
        let p = by_definition(&logits, &sampling);
        // One sampler that goes on, and one draw each of many seeds.
        let mut counts = HashMap::new();
        let mut sampler = Sampler::new(Sampling { seed: 7, ..sampling.clone() }, &[], vocab).unwrap();
        for _ in 0..DRAWS {
            *counts.entry(sampler.choose(&mut logits.clone())).or_default() += 1;
        }
        let alone = fit(&counts, &p);
        let mut by_seed = HashMap::new();
        let mut counts = HashMap::new();
        let mut next = 0;
        loop {
            while next < DRAWS && scheduler.statistics().waiting < 64 {
                let sampling = Sampling { seed: next, ..sampling.clone() };
                let options = GenerateOptions {
                    max_tokens: Some(1),
                    sampling,
                    ignore_ends: true,
                    ..GenerateOptions::default()
                };
                let id = scheduler.submit(Request::new(inputs.clone(), options)).unwrap();
                by_seed.insert(id, next);
                next += 1;
            }
            let more = scheduler.step(&mut |id, event| {
                if let Event::Token { id: token, .. } = event {
                    *counts.entry(token).or_default() += 1;
                    let settings = Sampling { seed: by_seed[&id], ..sampling.clone() };
                    let mut sampler = Sampler::new(settings, &[], vocab).unwrap();
                    assert_eq!(sampler.choose(&mut logits.clone()), token, "{name}: seed {}", by_seed[&id]);
                }
            });
            if !more.unwrap() && next == DRAWS {
                break;
            }
        }
        assert_eq!(counts.values().sum::<u64>(), DRAWS);
        let batched = fit(&counts, &p);
        let kept = p.iter().filter(|p| **p > 0.0).count();
        println!("{name}: {kept} tokens, chance alone {alone:.3}, batched {batched:.3}");
        assert!(alone > 0.001 && batched > 0.001, "{name}: {alone} alone, {batched} batched");
    }
}
