//! `percept data pull`: raw material from folders, lists, hubs and shards into one folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::pull::{AllowPrivate, Outcome, Settings, Status, Summary, Watch, pull};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::table::table;

/// Reasons that the table names; the status has them all.
const MOST_REASONS: usize = 10;

#[derive(Args)]
pub struct Pull {
    /// Folders, lists of addresses (.txt, .csv, .tsv, .jsonl, .parquet), tars,
    /// hf://datasets/OWNER/NAME[@REVISION][/PATH]
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The folder that gets the files, status.jsonl and index.jsonl; a pull that was cut off goes on there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Samples that are fetched in parallel
    #[arg(long, default_value_t = 16, value_name = "N")]
    threads: usize,
    /// Requests per second to one host, such as 5 or 0.5; by default no limit
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Retries after a failure that may be temporary
    #[arg(long, default_value_t = 4, value_name = "N")]
    retries: u32,
    /// Seconds to wait for a connection, an answer, or more of a file
    #[arg(long, default_value_t = 30.0, value_name = "S")]
    timeout: f64,
    /// Seconds before the first retry; the pause doubles with every retry
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    backoff: f64,
    /// Largest size of a file in bytes; by default 1 GiB for samples of lists, no limit for the rest
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// Follow private addresses of these hosts, or of all; for all, the proxy of the environment is used too
    #[arg(long, value_name = "HOST[:PORT]", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    allow_private: Option<Vec<String>>,
    /// Hard-link local files where the file system can, instead of copying them
    #[arg(long)]
    link: bool,
    /// The seed of the jitter of pauses
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub fn run(self) -> Result<(), Failure> {
        let start = Instant::now();
        let settings = self.settings()?;
        let progress = Progress::new();
        let summary = pull(&self.sources, &self.out, &settings, &progress);
        progress.bar.finish_and_clear();
        let summary = summary?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            let document = json!({
                "out": self.out.display().to_string(),
                "samples": summary.samples,
                "arrived": summary.arrived(),
                "bytes": summary.bytes,
                "outcomes": summary.outcomes,
                "reasons": summary.reasons,
                "seconds": seconds,
            });
            println!("{document}");
        } else {
            report(&summary, progress.brought.load(Ordering::Relaxed), seconds);
        }
        if summary.samples > 0 && summary.arrived() == 0 {
            let why = "nothing arrived; status.jsonl has the reason for each sample";
            return Err(Failure::Negative(why.into()));
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|e| Failure::Usage(format!("--{name} {value} is no number of seconds: {e}")))
        };
        // An empty variable is as good as none.
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let defaults = Settings::default();
        Ok(Settings {
            threads: self.threads,
            rate: self.rate,
            retries: self.retries,
            timeout: seconds("timeout", self.timeout)?,
            backoff: seconds("backoff", self.backoff)?,
            max_bytes: self.max_bytes,
            allow_private: match &self.allow_private {
                None => AllowPrivate::No,
                Some(hosts) if hosts.is_empty() => AllowPrivate::All,
                Some(hosts) => AllowPrivate::Hosts(hosts.clone()),
            },
            link: self.link,
            endpoint: variable("HF_ENDPOINT").unwrap_or(defaults.endpoint),
            token: variable("HF_TOKEN"),
            seed: self.seed,
        })
    }
}

/// A line on standard error: samples done, bytes per second, those that failed, and the time left.
struct Progress {
    bar: ProgressBar,
    brought: Arc<AtomicU64>,
    failed: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::no_length().with_message("listing");
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, brought: Arc::default(), failed: AtomicU64::new(0) }
    }
}

impl Watch for Progress {
    fn planned(&self, samples: u64) {
        let brought = Arc::clone(&self.brought);
        let speed = move |state: &ProgressState, w: &mut dyn std::fmt::Write| {
            let seconds = state.elapsed().as_secs_f64().max(1e-3);
            let rate = DecimalBytes((brought.load(Ordering::Relaxed) as f64 / seconds) as u64);
            // Nothing can be done about a line that cannot be written.
            let _ = write!(w, "{rate}/s");
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {speed}, {eta} left") {
            self.bar.set_style(style.with_key("speed", speed));
        }
        self.bar.set_message("samples");
        self.bar.set_length(samples);
        self.bar.reset();
    }

    fn brought(&self, bytes: u64) {
        self.brought.fetch_add(bytes, Ordering::Relaxed);
    }

    fn settled(&self, status: Option<&Status>) {
        if status.is_some_and(|status| status.outcome != Outcome::Ok) {
            let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
            self.bar.set_message(format!("samples, {failed} not to be had"));
        }
        self.bar.inc(1);
    }
}

fn report(summary: &Summary, brought: u64, seconds: f64) {
    let mut outcomes = table(&["outcome", "samples"], &[1]);
    for (outcome, count) in &summary.outcomes {
        outcomes.add_row([outcome.name().to_owned(), count.to_string()]);
    }
    println!("{outcomes}");
    let mut reasons: Vec<(&String, &u64)> = summary.reasons.iter().collect();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), (*reason).clone()));
    if !reasons.is_empty() {
        let mut rows = table(&["samples", "reason"], &[0]);
        for (reason, count) in reasons.iter().take(MOST_REASONS) {
            rows.add_row([count.to_string(), (*reason).clone()]);
        }
        println!("\n{rows}");
        if reasons.len() > MOST_REASONS {
            println!("… and {} other reasons in status.jsonl", reasons.len() - MOST_REASONS);
        }
    }
    let rate = DecimalBytes((brought as f64 / seconds.max(1e-3)) as u64);
    println!(
        "\n{} of {} samples are there, {}; this run brought {} in {seconds:.1} s, {rate}/s",
        summary.arrived(),
        summary.samples,
        DecimalBytes(summary.bytes),
        DecimalBytes(brought),
    );
}
