//! Counts and times of what the server does, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::models::{Kind, Registry};

/// Upper bounds of the buckets of times, in seconds.
const BOUNDS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

/// Times in buckets.
#[derive(Debug, Clone, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        let within = self.buckets.iter_mut().zip(BOUNDS).filter(|(_, bound)| seconds <= *bound);
        within.for_each(|(bucket, _)| *bucket += 1);
        self.count += 1;
        self.sum += seconds;
    }
}

/// The times that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// From a request's arrival to its first token.
    First,
    /// Between two tokens of an answer.
    Between,
    /// From a request's arrival to the end of its answers.
    Whole,
}

#[derive(Default)]
struct Counted {
    /// By model: the times in the order of [`Time`].
    times: BTreeMap<String, [Histogram; 3]>,
    /// Requests by path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// Connections that are open.
    connections: u64,
}

/// All counts.
#[derive(Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
}

impl Metrics {
    fn with<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A time of a model's answer, in seconds.
    pub fn time(&self, model: &str, time: Time, seconds: f64) {
        self.with(|counted| {
            if !counted.times.contains_key(model) {
                counted.times.insert(model.to_owned(), Default::default());
            }
            if let Some(times) = counted.times.get_mut(model) {
                times[time as usize].add(seconds);
            }
        });
    }

    /// A request was answered.
    pub fn request(&self, path: &'static str, status: u16) {
        self.with(|counted| *counted.requests.entry((path, status)).or_default() += 1);
    }

    /// Connections that are open, after some came or went.
    pub fn connections(&self, change: i64) -> u64 {
        self.with(|counted| {
            counted.connections = counted.connections.saturating_add_signed(change);
            counted.connections
        })
    }

    /// Seconds until room for another answer is likely: the mean time of an answer over those that run side by side.
    pub fn retry_after(&self, model: &str, running: usize) -> u64 {
        let mean = self.with(|counted| {
            let whole = &counted.times.get(model)?[Time::Whole as usize];
            (whole.count > 0).then(|| whole.sum / whole.count as f64)
        });
        (mean.unwrap_or(1.0) / running.max(1) as f64).ceil().clamp(1.0, 60.0) as u64
    }

    /// The document that Prometheus reads.
    pub fn document(&self, registry: &Registry) -> String {
        let mut out = Document::default();
        out.models(registry);
        self.with(|counted| {
            let names = [
                ("percept_time_to_first_token_seconds", "From a request's arrival to its first token."),
                ("percept_inter_token_seconds", "Between two tokens of an answer."),
                ("percept_request_seconds", "From a request's arrival to the end of its answers."),
            ];
            for (i, (name, help)) in names.iter().enumerate() {
                out.head(name, help, "histogram");
                for (model, times) in &counted.times {
                    out.histogram(name, model, &times[i]);
                }
            }
            out.head("percept_http_requests_total", "Requests by endpoint and status.", "counter");
            for ((path, status), n) in &counted.requests {
                out.line(
                    "percept_http_requests_total",
                    &[("path", path), ("status", &status.to_string())],
                    *n as f64,
                );
            }
            out.head("percept_connections", "Open connections.", "gauge");
            out.line("percept_connections", &[], counted.connections as f64);
        });
        out.0
    }
}

/// A document that is being written.
#[derive(Default)]
struct Document(String);

impl Document {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, model: &str, histogram: &Histogram) {
        for (bucket, bound) in histogram.buckets.iter().zip(BOUNDS) {
            let labels = [("model", model), ("le", &bound.to_string())];
            self.line(&format!("{name}_bucket"), &labels, *bucket as f64);
        }
        self.line(&format!("{name}_bucket"), &[("model", model), ("le", "+Inf")], histogram.count as f64);
        self.line(&format!("{name}_sum"), &[("model", model)], histogram.sum);
        self.line(&format!("{name}_count"), &[("model", model)], histogram.count as f64);
    }

    /// What the threads of language models count.
    fn models(&mut self, registry: &Registry) {
        let entries = registry.entries();
        let all: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry.kind() {
                Some(Kind::Language(language)) => Some((entry.name.as_str(), language.statistics())),
                _ => None,
            })
            .collect();
        let share = |used: usize, all: usize| if all == 0 { 0.0 } else { used as f64 / all as f64 };
        type Read<'a, S> = &'a dyn Fn(&S) -> f64;
        let rows: [(&str, &str, &str, Read<'_, percept_infer::SchedulerStatistics>); 11] = [
            ("percept_requests_running", "Answers that are being made.", "gauge", &|s| s.running as f64),
            ("percept_requests_waiting", "Answers that wait for their turn.", "gauge", &|s| s.waiting as f64),
            (
                "percept_cache_usage_ratio",
                "The share of the pages of the cache that hold something that runs.",
                "gauge",
                &|s| share(s.pages_used, s.pages),
            ),
            (
                "percept_prefix_cache_queries_total",
                "Tokens of prompts that were looked for in the cache.",
                "counter",
                &|s| s.prefix_queries as f64,
            ),
            (
                "percept_prefix_cache_hits_total",
                "Tokens of prompts that were found in the cache.",
                "counter",
                &|s| s.prefix_hits as f64,
            ),
            ("percept_prompt_tokens_total", "Tokens of prompts.", "counter", &|s| s.prompt_tokens as f64),
            ("percept_generation_tokens_total", "Tokens that were generated.", "counter", &|s| {
                s.generated_tokens as f64
            }),
            (
                "percept_preemptions_total",
                "Answers that gave their pages to others and were read again.",
                "counter",
                &|s| s.preemptions as f64,
            ),
            ("percept_cache_pages", "Pages of the cache.", "gauge", &|s| s.pages as f64),
            ("percept_drafted_tokens_total", "Tokens that were guessed.", "counter", &|s| {
                s.drafted_tokens as f64
            }),
            ("percept_accepted_tokens_total", "Guessed tokens that were right.", "counter", &|s| {
                s.accepted_tokens as f64
            }),
        ];
        for (name, help, kind, value) in rows {
            self.head(name, help, kind);
            for (model, statistics) in &all {
                self.line(name, &[("model", model)], value(statistics));
            }
        }
        let name = "percept_undrafted_total";
        let help = "Answers, and steps of answers where the draft model's cache is full, that it does not guess for.";
        self.head(name, help, "counter");
        for (model, s) in &all {
            let reasons =
                [("unread", s.undrafted_unread), ("long", s.undrafted_long), ("full", s.undrafted_full)];
            for (reason, n) in reasons {
                self.line(name, &[("model", model), ("reason", reason)], n as f64);
            }
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_within_them() {
        let mut histogram = Histogram::default();
        [0.0005, 0.02, 0.02, 1000.0].iter().for_each(|&seconds| histogram.add(seconds));
        let mut out = Document::default();
        out.histogram("t", "a\"b", &histogram);
        for line in [
            r#"t_bucket{model="a\"b",le="0.001"} 1"#,
            r#"t_bucket{model="a\"b",le="0.025"} 3"#,
            r#"t_bucket{model="a\"b",le="300"} 3"#,
            r#"t_bucket{model="a\"b",le="+Inf"} 4"#,
            r#"t_count{model="a\"b"} 4"#,
        ] {
            assert!(out.0.lines().any(|found| found == line), "{line} is not in\n{}", out.0);
        }
    }
}
