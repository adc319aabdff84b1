//! `percept bench preprocess`: how fast pictures become what a vision tower reads.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use percept::modalities::image::{Filter, Limits, Normalize, decode, normalize, resize};
use rayon::prelude::*;
use serde_json::json;

use super::Failure;

#[derive(Args)]
pub struct Preprocess {
    /// A picture: it is decoded, resized with the bicubic filter and normalized
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Side of the square that it is resized to
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Copies prepared side by side in one run
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Timed runs at least
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Go on for this many seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Preprocess {
    pub fn run(self) -> Result<(), Failure> {
        let path = self.image.display().to_string();
        let failed = |error: percept::modalities::Error| Failure::Content {
            path: self.image.clone(),
            why: error.to_string(),
        };
        let bytes = std::fs::read(&self.image)
            .map_err(|source| Failure::File { path: self.image.clone(), source })?;
        let settings = Normalize { rescale_factor: Some(1.0 / 255.0), mean: [0.5; 3], std: [0.5; 3] };
        let picture = decode(&bytes, &Limits::default()).map_err(failed)?;
        let prepare = || {
            let picture = decode(&bytes, &Limits::default())?;
            let picture = resize(&picture, self.size, self.size, Filter::Bicubic)?;
            Ok(normalize(&picture, &settings).len())
        };
        let mut times = Vec::new();
        let begin = Instant::now();
        let seconds = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        while times.len() < self.runs.max(1) || begin.elapsed() < seconds {
            let start = Instant::now();
            (0..self.batch).into_par_iter().try_for_each(|_| prepare().map(drop)).map_err(failed)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (median, least) = (times[times.len() / 2], times[0]);
        let rate = f64::from(self.batch) / median * 1e3;
        if self.json {
            let report = json!({
                "bench": "preprocess",
                "device": "cpu",
                "settings": {
                    "image": path, "width": picture.width, "height": picture.height, "size": self.size,
                    "batch": self.batch, "threads": rayon::current_num_threads(),
                },
                "median_ms": median,
                "min_ms": least,
                "runs": times.len(),
                "rate": rate,
                "rate_unit": "images/s",
            });
            println!("{report:#}");
        } else {
            println!(
                "{path}: {}x{} decoded, resized to {} and normalized, {} at a time: {rate:.1} images/s \
                 (median {median:.2} ms, best {least:.2} ms a run)",
                picture.width, picture.height, self.size, self.batch
            );
        }
        Ok(())
    }
}
