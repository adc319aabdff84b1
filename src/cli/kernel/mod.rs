//! `percept kernel`: the WGSL library, and kernels of one's own.

mod bench;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use percept::hal::conformance::{Options, Runner, Subject, cases, run, trial_cases, try_kernel};
use percept::kernels::{Caps, Target, catalog, entry, export};
use percept_wgpu::WgpuBackend;
use serde_json::{Value as Json, json};

use crate::cli::Failure;
use crate::cli::failure::{read_text, write_file};
use crate::cli::table::table;
use bench::KernelBench;

#[derive(Subcommand)]
pub enum KernelCommand {
    /// List the kernels and how many variants each has
    #[command(after_help = "Examples:\n  percept kernel list\n  percept kernel list --json")]
    List(List),
    /// Hold kernels, or a .wgsl file of your own, to an operation's cases
    #[command(after_help = "Examples:\n  percept kernel test softmax --device wgpu:0\n  \
        percept kernel test --wgsl my_softmax.wgsl --like softmax")]
    Test(Test),
    /// Time kernels as a share of what the adapter can move or compute
    #[command(
        after_help = "Examples:\n  percept kernel bench\n  percept kernel bench matmul --device wgpu:0 --json"
    )]
    Bench(KernelBench),
    /// Write a kernel's variants in another shading language
    #[command(after_help = "Examples:\n  percept kernel export softmax --to msl --out exported")]
    Export(Export),
}

#[derive(Args)]
pub struct List {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Test {
    /// A kernel of `percept kernel list`; by default all of them
    name: Option<String>,
    /// A kernel of your own; docs/add-a-kernel.md describes its bindings
    #[arg(long, value_name = "FILE", requires = "like")]
    wgsl: Option<PathBuf>,
    /// The operation your kernel computes
    #[arg(long, value_name = "OP", requires = "wgsl")]
    like: Option<String>,
    /// The adapter
    #[arg(long, default_value = "wgpu:0")]
    device: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Export {
    /// A kernel of `percept kernel list`
    name: String,
    /// spirv, msl, hlsl or glsl
    #[arg(long)]
    to: Target,
    /// The folder to write to, made if it is not there
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl KernelCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            KernelCommand::List(l) => l.run(),
            KernelCommand::Test(t) => t.run(),
            KernelCommand::Bench(b) => b.run(),
            KernelCommand::Export(e) => e.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let all = catalog();
        let variants = |e: &percept::kernels::Entry| e.modules(&Caps::default()).len();
        if self.json {
            let entry = |e: &percept::kernels::Entry| json!({ "kernel": e.name, "cases": e.cases.len(), "variants": variants(e) });
            println!("{}", Json::Array(all.iter().map(entry).collect()));
            return Ok(());
        }
        let mut t = table(&["KERNEL", "CASES", "VARIANTS"], &[1, 2]);
        for e in &all {
            t.add_row([e.name.to_string(), e.cases.len().to_string(), variants(e).to_string()]);
        }
        println!("{t}");
        Ok(())
    }
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
    fn foreign(&self, file: &Path, op: &str) -> Result<(), Failure> {
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
                if self.json {
                    println!(
                        "{}",
                        json!({ "file": file, "like": op, "cases": cases.len(), "dispatches": dispatches })
                    );
                    return Ok(());
                }
                println!(
                    "{} is right: {dispatches} dispatches over {} cases of {op}",
                    file.display(),
                    cases.len()
                );
                Ok(())
            }
            Err(e) => Err(Failure::Content { path: file.to_path_buf(), why: e.to_string() }),
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
        match self.json {
            true => println!("{}", report.to_json()),
            false => println!("{report}"),
        }
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

impl Export {
    fn run(self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.out)
            .map_err(|source| Failure::File { path: self.out.clone(), source })?;
        let extension = match self.to {
            Target::Spirv => "spv",
            Target::Msl => "metal",
            Target::Hlsl => "hlsl",
            Target::Glsl => "comp",
        };
        let mut files = Vec::new();
        for entry in known(Some(&self.name))? {
            for module in entry.modules(&Caps::default()) {
                let file = self.out.join(format!("{}.{extension}", module.key));
                let bytes = export(&module, self.to)
                    .map_err(|e| Failure::Content { path: file.clone(), why: e.to_string() })?;
                write_file(&file, &bytes)?;
                files.push(file);
            }
        }
        if self.json {
            println!("{}", json!({ "kernel": self.name, "files": files }));
        } else {
            println!("{} variants of {} written to {}", files.len(), self.name, self.out.display());
        }
        Ok(())
    }
}
