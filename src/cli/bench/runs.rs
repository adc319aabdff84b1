//! Timed runs of a whole model, and how they are printed.

use clap::Args;
use percept::hal::OpTiming;
use serde_json::{Value, json};

use super::Timing;
use super::explain::{Breakdown, Roof};
use crate::cli::Failure;
use crate::cli::model::loading::Loading;

/// How often a run is timed, and how the result is printed.
#[derive(Args)]
pub struct Runs {
    /// Timed runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Say where the time of a run goes: by operation and by cause, beside what the device can do at best
    #[arg(long)]
    explain: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What was timed.
pub struct Timed<'a> {
    /// The name of the command.
    pub bench: &'a str,
    /// The device's id.
    pub device: &'a str,
    /// What the run was asked for.
    pub settings: Value,
    /// The times of the runs.
    pub timing: Timing,
    /// The work of a run, and the unit of its rate.
    pub work: (f64, &'a str),
    /// What else was found.
    pub more: Value,
    /// Where the time of one run went.
    pub breakdown: Option<Breakdown>,
}

impl Runs {
    /// Run once to warm up, then timed; `run` gives milliseconds.
    pub fn time(&self, mut run: impl FnMut() -> Result<f64, Failure>) -> Result<Timing, Failure> {
        let first = run()?;
        let times = (0..self.runs.max(1)).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
        Ok(Timing::of(first, times))
    }

    /// Where the time of a run goes, when that was asked for; `run` gives its milliseconds, what was timed, and what its
    /// device can do. Of several runs the middle one counts.
    pub fn explain(
        &self,
        plain: &Timing,
        run: impl FnMut() -> Result<(f64, Vec<OpTiming>, Roof), Failure>,
    ) -> Result<Option<Breakdown>, Failure> {
        if !self.explain {
            return Ok(None);
        }
        let mut found =
            std::iter::repeat_with(run).take(self.runs.clamp(1, 5)).collect::<Result<Vec<_>, _>>()?;
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ms, events, roof) = found.swap_remove(found.len() / 2);
        Ok(Some(Breakdown::of(&events, ms, plain.median, roof)))
    }

    /// Print what was found, with the model that was opened among the settings.
    pub fn print(&self, timed: Timed<'_>, loading: &Loading) {
        let Timed { bench, device, mut settings, timing, work: (work, unit), more, breakdown } = timed;
        settings["model"] = json!(loading.model);
        settings["dtype"] = json!(loading.dtype.map(|d| d.name()));
        let [rate, best] = [timing.median, timing.min].map(|ms| work / ms * 1e3);
        if self.json {
            let mut document = json!({
                "bench": bench, "device": device, "settings": settings, "median_ms": timing.median,
                "min_ms": timing.min, "runs": timing.runs, "rate": rate, "rate_unit": unit,
                "first_call_ms": timing.first,
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                document[key] = value.clone();
            }
            if let Some(breakdown) = breakdown {
                document["breakdown"] = breakdown.to_json();
            }
            println!("{document}");
        } else {
            println!(
                "{bench} {settings} on {device}: median {:.1} ms, best {:.1} ms of {} runs, {rate:.1} {unit} \
                 (best {best:.1}); {more}",
                timing.median, timing.min, timing.runs
            );
            if let Some(breakdown) = breakdown {
                breakdown.print();
            }
        }
    }
}
