//! `percept device report` and `percept device compare`: what the ladder found, on one page, for one device or for several side
//! by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use percept::hal::conformance::{Level, Options, Report};
use serde_json::Value;

use super::ladder::{Isolation, climb};
use super::side_by_side::SideBySide;
use crate::cli::Failure;
use crate::cli::failure::{read_text, write_file};

#[derive(Args)]
pub struct DeviceReport {
    /// The device: cpu, wgpu:0
    id: String,
    #[command(flatten)]
    ladder: Climb,
    /// Write a page with the matrix, the errors, the speed and the operations to write next
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the results as JSON, for `percept device compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
pub struct Compare {
    /// Reports that `percept device test ID --json FILE` wrote, or ids of devices, which climb the ladder now
    #[arg(value_name = "FILE|ID", required = true, num_args = 2..)]
    devices: Vec<String>,
    #[command(flatten)]
    ladder: Climb,
    /// Write a page with the devices side by side
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Climb {
    /// Highest rung to climb: 0 memory, 1 primitives, 2 composites, 3 gradients and invariance, 4 endurance
    /// and speed, 5 a tiny model of every family
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=5))]
    level: u8,
    /// Only cases whose id contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Seconds a case may take before it counts as hung
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

impl Climb {
    fn report(&self, id: &str) -> Result<Report, Failure> {
        let options = Options {
            level: Level::ALL[self.level as usize],
            filter: self.filter.clone(),
            timeout: Duration::from_secs(self.timeout),
            more: super::families::cases,
            ..Options::default()
        };
        climb(id, &options, Isolation::default())
    }
}

impl DeviceReport {
    pub fn run(self) -> Result<(), Failure> {
        let report = self.ladder.report(&self.id)?;
        if let Some(file) = &self.json {
            write_file(file, format!("{:#}\n", report.to_json()).as_bytes())?;
        }
        if let Some(file) = &self.html {
            let device = percept::registry().open(&self.id)?;
            let page = SideBySide::new(vec![report.clone()]).page(&[Some(device.info().clone())]);
            write_file(file, page.as_bytes())?;
        }
        println!("{report}");
        Ok(())
    }
}

impl Compare {
    pub fn run(self) -> Result<(), Failure> {
        let registry = percept::registry();
        let (mut reports, mut infos) = (Vec::new(), Vec::new());
        for given in &self.devices {
            if Path::new(given).is_file() {
                reports.push(read_report(Path::new(given))?);
                infos.push(None);
            } else if given.ends_with(".json") {
                return Err(Failure::Usage(format!(
                    "there is no file {given}; `percept device test ID --json {given}` writes one"
                )));
            } else {
                infos.push(Some(registry.open(given)?.info().clone()));
                reports.push(self.ladder.report(given)?);
            }
        }
        let all = SideBySide::new(reports);
        if let Some(file) = &self.html {
            write_file(file, all.page(&infos).as_bytes())?;
        }
        match self.json {
            true => println!("{:#}", all.to_json()),
            false => print!("{all}"),
        }
        Ok(())
    }
}

fn read_report(file: &Path) -> Result<Report, Failure> {
    let wrong = |why: String| Failure::Content {
        path: file.to_path_buf(),
        why: format!("it is no report of `percept device test ID --json FILE`: {why}"),
    };
    let document: Value = serde_json::from_str(&read_text(file)?).map_err(|e| wrong(e.to_string()))?;
    Report::from_json(&document).map_err(wrong)
}
