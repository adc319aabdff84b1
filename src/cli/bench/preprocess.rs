//! `percept bench preprocess`: the speed of preparing images for a vision tower, and of decoding videos.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use percept::modalities::image::{Filter, Limits, Normalize, decode, normalize, resize};
use percept::modalities::video;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Timing;
use crate::cli::Failure;

#[derive(Args)]
#[command(group(clap::ArgGroup::new("medium").required(true)))]
pub struct Preprocess {
    /// An image: it is decoded, resized with the bicubic filter and normalized
    #[arg(long, value_name = "FILE", group = "medium")]
    image: Option<PathBuf>,
    /// A video: all its frames are decoded to RGB
    #[arg(long, value_name = "FILE", group = "medium")]
    video: Option<PathBuf>,
    /// Side of the square that an image is resized to, in pixels
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Copies of the image in a batch, prepared in parallel
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Least number of timed runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Least time to measure for, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What is timed: a run, its title, its settings, and the work that it does in a unit.
struct Task<'a> {
    once: Box<dyn FnMut() -> Result<(), Failure> + 'a>,
    title: String,
    settings: Value,
    work: f64,
    unit: &'static str,
}

impl Preprocess {
    pub fn run(self) -> Result<(), Failure> {
        let Task { mut once, title, settings, work, unit } = match (&self.image, &self.video) {
            (Some(path), _) => self.images(path)?,
            (None, Some(path)) => decode_video(path)?,
            (None, None) => return Err(Failure::Usage("give an --image or a --video".into())),
        };
        let mut times = Vec::new();
        let begin = Instant::now();
        let seconds = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        while times.len() < self.runs.max(1) || begin.elapsed() < seconds {
            let start = Instant::now();
            once()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let Timing { median, min, runs, .. } = Timing::of(times[0], times);
        let rate = work / median * 1e3;
        if self.json {
            let report = json!({
                "bench": "preprocess", "device": "cpu", "settings": settings, "median_ms": median,
                "min_ms": min, "runs": runs, "rate": rate, "rate_unit": unit,
            });
            println!("{report:#}");
        } else {
            println!("{title}: {rate:.1} {unit} (median {median:.2} ms, best {min:.2} ms a run)");
        }
        Ok(())
    }

    /// A batch of copies of an image.
    fn images(&self, path: &Path) -> Result<Task<'_>, Failure> {
        let failed = content(path);
        let bytes = std::fs::read(path).map_err(|source| Failure::File { path: path.into(), source })?;
        let half = Normalize { rescale_factor: Some(1.0 / 255.0), mean: [0.5; 3], std: [0.5; 3] };
        let image = decode(&bytes, &Limits::default()).map_err(&failed)?;
        let (width, height) = (image.width, image.height);
        let (size, batch) = (self.size, self.batch);
        let prepare = move || {
            let image = decode(&bytes, &Limits::default())?;
            let image = resize(&image, size, size, Filter::Bicubic)?;
            Ok(normalize(&image, &half).len())
        };
        Ok(Task {
            once: Box::new(move || {
                (0..batch).into_par_iter().try_for_each(|_| prepare().map(drop)).map_err(&failed)
            }),
            title: format!(
                "{}: {width}x{height} decoded, resized to {size} and normalized, {batch} at a time",
                path.display()
            ),
            settings: json!({
                "image": path, "width": width, "height": height, "size": size, "batch": batch,
                "threads": rayon::current_num_threads(),
            }),
            work: f64::from(batch),
            unit: "images/s",
        })
    }
}

/// All frames of a video, one after another.
fn decode_video(path: &Path) -> Result<Task<'_>, Failure> {
    let failed = content(path);
    let decode = move || {
        let mut seen = (0u32, 0, 0);
        for frame in video::frames(path, &video::Limits::default()).map_err(&failed)? {
            let image = frame.map_err(&failed)?.image;
            seen = (seen.0 + 1, image.width, image.height);
        }
        Ok(seen)
    };
    let (frames, width, height) = decode()?;
    Ok(Task {
        once: Box::new(move || decode().map(drop)),
        title: format!("{}: {frames} frames of {width}x{height} decoded to RGB", path.display()),
        settings: json!({ "video": path, "width": width, "height": height, "frames": frames }),
        work: f64::from(frames),
        unit: "frames/s",
    })
}

/// The failure of a file that cannot be read.
fn content(path: &Path) -> impl Fn(percept::modalities::Error) -> Failure + Sync + use<> {
    let path = path.to_path_buf();
    move |error| Failure::Content { path: path.clone(), why: error.to_string() }
}
