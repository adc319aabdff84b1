//! `percept kernel`: the WGSL library, and kernels of one's own.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use percept::hal::conformance::{Options, Runner, Subject, cases, run, trial_cases, try_kernel};
use percept::kernels::{Caps, catalog, entry};
use percept_wgpu::WgpuBackend;

use super::Failure;
use super::failure::read_text;
use super::table::table;

#[derive(Subcommand)]
pub enum KernelCommand {
    /// List the kernels and how many variants each has
    List,
    /// Hold kernels, or a .wgsl file of your own, to an operation's cases
    #[command(after_help = "Examples:\n  percept kernel test softmax --device wgpu:0\n  \
        percept kernel test --wgsl my_softmax.wgsl --like softmax")]
    Test(Test),
}

#[derive(Args)]
pub struct Test {
    /// A kernel of `percept kernel list`; all of them when left out
    name: Option<String>,
    /// A kernel of your own; docs/add-a-kernel.md says what it sees
    #[arg(long, value_name = "FILE", requires = "like")]
    wgsl: Option<PathBuf>,
    /// The operation your kernel computes
    #[arg(long, value_name = "OP", requires = "wgsl")]
    like: Option<String>,
    /// The adapter
    #[arg(long, default_value = "wgpu:0")]
    device: String,
}

impl KernelCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            KernelCommand::List => list(),
            KernelCommand::Test(t) => t.run(),
        }
    }
}

fn list() -> Result<(), Failure> {
    let mut t = table(&["KERNEL", "CASES", "VARIANTS"], &[1, 2]);
    for e in catalog() {
        t.add_row([
            e.name.to_string(),
            e.cases.len().to_string(),
            e.modules(&Caps::default()).len().to_string(),
        ]);
    }
    println!("{t}");
    Ok(())
}

/// The kernels with a name, or all of them.
fn known(name: Option<&str>) -> Result<Vec<percept::kernels::Entry>, Failure> {
    match name {
        None => Ok(catalog()),
        Some(name) => entry(name).map(|e| vec![e]).ok_or_else(|| {
            let names: Vec<&str> = catalog().iter().map(|e| e.name).collect();
            Failure::Usage(format!("no kernel '{name}'; known: {}", names.join(", ")))
        }),
    }
}

impl Test {
    fn run(self) -> Result<(), Failure> {
        match (&self.wgsl, &self.like) {
            (Some(file), Some(op)) => self.foreign(file, op),
            _ => self.own(),
        }
    }

    /// A file of the user's own.
    fn foreign(&self, file: &PathBuf, op: &str) -> Result<(), Failure> {
        let text = read_text(file)?;
        let cases = trial_cases(op);
        if cases.is_empty() {
            let mut ops: Vec<String> = cases_ops();
            ops.retain(|o| !trial_cases(o).is_empty());
            return Err(Failure::Usage(format!("no operation '{op}' to be like; known: {}", ops.join(", "))));
        }
        let device = WgpuBackend::open_kernels(&self.device)?;
        match try_kernel(&device, &text, &cases) {
            Ok(dispatches) => {
                println!(
                    "{} is right: {dispatches} dispatches over {} cases of {op}",
                    file.display(),
                    cases.len()
                );
                Ok(())
            }
            Err(e) => Err(Failure::Content { path: file.clone(), why: e.to_string() }),
        }
    }

    /// The library's own kernels, held to the ladder's cases of their operations.
    fn own(&self) -> Result<(), Failure> {
        let mut ops: Vec<String> =
            known(self.name.as_deref())?.iter().flat_map(|e| e.cases.iter().map(|c| c.op.name())).collect();
        ops.sort();
        ops.dedup();
        let registry = percept::registry();
        let mut subject = Subject::new(registry.open(&self.device)?);
        subject.host = Some(registry.open("cpu")?);
        let options = Options { ops, ..Options::default() };
        let report = run(&self.device, &Runner::InProcess(&subject), &options, &mut |_, _, _| {})
            .map_err(|e| Failure::Usage(e.to_string()))?;
        println!("{report}");
        match report.failures().count() {
            0 => Ok(()),
            n => Err(Failure::Negative(format!("{n} cases failed on {}", self.device))),
        }
    }
}

/// The operations the ladder has cases of.
fn cases_ops() -> Vec<String> {
    let mut ops: Vec<String> = cases().into_iter().map(|c| c.op).collect();
    ops.sort();
    ops.dedup();
    ops
}
