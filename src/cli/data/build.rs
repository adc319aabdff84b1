//! `percept data build`: clean, deduplicate and shard a corpus by a recipe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use percept::data::build::{BuildOptions, Built, Changes, Manifest, Progress, Timings, build};
use percept::data::{Recipe, emoji_world};
use serde_json::json;

use super::score::Checkpoints;
use crate::cli::Failure;
use crate::cli::table::table;

#[derive(Args)]
pub struct Build {
    /// A recipe's TOML file, or the name of a built-in one: emoji-world
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The folder of the corpus. A corpus that is there stays if nothing that it was made of has changed, and
    /// until a new one is whole; what a killed build left is removed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of threads; the shards do not depend on it; by default the number of cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The seed of everything that is random
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A recipe that comes with Percept: its name, and what builds it in a folder.
type BuiltIn = (&'static str, fn(&Build, &ProgressBar) -> Result<Built, Failure>);

/// The recipes that come with Percept.
const BUILT_IN: &[BuiltIn] = &[(emoji_world::NAME, build_emoji_world)];

impl Build {
    pub fn run(self) -> Result<(), Failure> {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        let built_in = BUILT_IN.iter().find(|(name, _)| self.recipe.as_path() == Path::new(name));
        let built = match built_in {
            Some((_, build)) if !self.recipe.exists() => build(&self, &bar),
            _ => self.build_recipe(&bar),
        };
        bar.finish_and_clear();
        let Built { manifest, timings, changes } = built?;
        if self.json {
            let document =
                json!({"out": self.out, "manifest": manifest, "timings": timings, "changes": changes});
            println!("{document}");
            return Ok(());
        }
        print_stages(&manifest, timings.as_ref());
        let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
        println!(
            "\n{} samples in {} shards, {:.1} MB, in {}",
            HumanCount(manifest.written),
            manifest.shards.len(),
            bytes as f64 / 1e6,
            self.out.display()
        );
        match timings {
            Some(timings) => println!(
                "{:.1} s on {} threads, {:.0} samples/s; seconds above are added over threads",
                timings.seconds, timings.threads, timings.samples_per_second
            ),
            None => println!(
                "it was there already: recipe, seed, version and the content of every input are the same"
            ),
        }
        Ok(())
    }

    fn build_recipe(&self, bar: &ProgressBar) -> Result<Built, Failure> {
        if !self.recipe.exists() {
            let names = BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let why = format!("there is no recipe {}; built in are: {names}", self.recipe.display());
            return Err(Failure::Usage(why));
        }
        let recipe = Recipe::open(&self.recipe)?;
        let tell = |Progress { read, written, rejected }| {
            let rate = read as f64 / bar.elapsed().as_secs_f64().max(1e-3);
            bar.set_message(format!(
                "{} read, {} written, {} rejected, {rate:.0} samples/s",
                HumanCount(read),
                HumanCount(written),
                HumanCount(rejected)
            ));
        };
        let mut options = BuildOptions { seed: self.seed, ..BuildOptions::default() };
        let hashing = |done, all| {
            bar.set_message(format!("{} of {} of the inputs compared", HumanBytes(done), HumanBytes(all)));
        };
        let rebuilding = |changes: &Changes| {
            bar.suspend(|| eprintln!("{} is built anew: {changes}", self.out.display()));
        };
        options.scorers = Some(&Checkpoints);
        options.progress = Some(&tell);
        options.hashing = Some(&hashing);
        options.rebuilding = Some(&rebuilding);
        if let Some(threads) = self.threads {
            options.threads = usize::from(threads);
        }
        let built = build(recipe.corpus(&options)?, &self.out, &options)?;
        for warning in built.manifest.warnings(recipe.max_rejected) {
            bar.suspend(|| eprintln!("warning: {warning}"));
        }
        Ok(built)
    }
}

fn build_emoji_world(build: &Build, bar: &ProgressBar) -> Result<Built, Failure> {
    let tell = |done, total| {
        bar.set_message(format!("{} of {} samples rendered", HumanCount(done), HumanCount(total)));
    };
    let options = emoji_world::Options {
        seed: build.seed,
        threads: build.threads.map(usize::from),
        progress: Some(&tell),
        ..emoji_world::Options::default()
    };
    Ok(emoji_world::build(&build.out, &options)?)
}

/// What each stage did, and how long it took where that is known.
pub fn print_stages(manifest: &Manifest, timings: Option<&Timings>) {
    let mut stages = table(&["stage", "in", "out", "seconds", "samples/s", "rejects"], &[1, 2, 3, 4]);
    for (at, stage) in manifest.stages.iter().enumerate() {
        let time = timings.and_then(|timings| timings.stages.get(at));
        let rejects: Vec<String> =
            stage.rejects.iter().map(|(reason, count)| format!("{reason} {}", HumanCount(*count))).collect();
        stages.add_row([
            stage.stage.clone(),
            HumanCount(stage.taken).to_string(),
            HumanCount(stage.given).to_string(),
            time.map_or_else(String::new, |time| format!("{:.2}", time.seconds)),
            time.map_or_else(String::new, |time| format!("{:.0}", time.samples_per_second)),
            rejects.join(", "),
        ]);
    }
    println!("{stages}");
    for (what, count) in &manifest.left_out {
        println!("not taken, {} times: {what}", HumanCount(*count));
    }
}
