//! `percept data inspect`: what a corpus holds.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use percept::data::inspect::{InspectOptions, Inspection, inspect};
use percept::modalities::text::{Tokenizer, TokenizerSettings};

use super::build::print_stages;
use crate::cli::Failure;
use crate::cli::failure::{read_bytes, write_file};
use crate::cli::table::table;

#[derive(Args)]
pub struct Inspect {
    /// A corpus, one of its splits as CORPUS/SPLIT or CORPUS:SPLIT, a folder of shards, or one shard
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Write one self-contained HTML page with charts and samples
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Count tokens too, by this tokenizer.json
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<(), Failure> {
        let tokenizer = match &self.tokenizer {
            Some(path) => {
                let tokenizer = Tokenizer::from_json(&read_bytes(path)?, TokenizerSettings::default());
                Some(tokenizer.map_err(|e| Failure::Content { path: path.clone(), why: e.to_string() })?)
            }
            None => None,
        };
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        let tell = |seen: u64| {
            let rate = seen as f64 / bar.elapsed().as_secs_f64().max(1e-3);
            bar.set_message(format!("{} samples, {rate:.0} a second", HumanCount(seen)));
        };
        let options = InspectOptions { tokenizer: tokenizer.as_ref(), progress: Some(&tell) };
        let inspection = inspect(&self.path, &options);
        bar.finish_and_clear();
        let inspection = inspection?;
        if let Some(path) = &self.html {
            let html = inspection.html().map_err(|why| Failure::Content { path: path.clone(), why })?;
            write_file(path, html.as_bytes())?;
        }
        if self.json {
            let document = serde_json::to_value(&inspection).map_err(|e| Failure::Negative(e.to_string()))?;
            println!("{document}");
        } else {
            print(&inspection);
            self.html.iter().for_each(|path| println!("\npage: {}", path.display()));
        }
        Ok(())
    }
}

fn print(inspection: &Inspection) {
    let megabytes = inspection.media_bytes as f64 / 1e6;
    println!("{} samples, {megabytes:.1} MB of media", HumanCount(inspection.samples));
    println!("{} media are there before, byte for byte\n", HumanCount(inspection.repeated_media));
    let mut counts = table(&["what", "", "count"], &[2]);
    for (what, all) in [
        ("split", &inspection.splits),
        ("medium", &inspection.media),
        ("has", &inspection.parts),
        ("damaged", &inspection.damaged),
    ] {
        for (name, count) in all {
            counts.add_row([what, name, &HumanCount(*count).to_string()]);
        }
    }
    println!("{counts}\n");
    let mut lengths = table(&["length or size", "count", "least", "mean", "most"], &[1, 2, 3, 4]);
    for (what, histogram) in &inspection.histograms {
        let number = |value: f64| format!("{value:.1}");
        lengths.add_row([
            what.clone(),
            HumanCount(histogram.count).to_string(),
            number(histogram.min),
            number(histogram.mean),
            number(histogram.max),
        ]);
    }
    println!("{lengths}");
    if let Some(manifest) = &inspection.manifest {
        println!();
        print_stages(manifest, inspection.timings.as_ref());
    }
}
