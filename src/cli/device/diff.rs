//! `percept device diff`: where does a device first disagree with the cpu?

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use percept::hal::{Arg, CompileOptions, Device, OpTiming, Visit, chrome_trace, walk};
use serde_json::json;

use super::subject::Subject;
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::model::conversation::Conversation;

#[derive(Args)]
pub struct Diff {
    /// The device to check, such as wgpu:0
    id: String,
    /// A checkpoint, which answers the prompt or, without one, runs its decoder for one step; or a text graph
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    conversation: Conversation,
    /// Tokens of the answer to a prompt; the first comes from the prompt's run, and each more from a step of its own
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_tokens: u16,
    /// Seed of a text graph's input values
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Largest normalized mean square error of an operation; the default depends on its dtype
    #[arg(long)]
    nmse: Option<f64>,
    /// Where to write the graph that reproduces a difference [default: MODEL with .diff.graph]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also run the whole graph on the device and write a Chrome timeline of it
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub fn run(self) -> Result<(), Failure> {
        let registry = percept::registry();
        let (cpu, device) = (registry.open("cpu")?, registry.open(&self.id)?);
        let recorded = match self.conversation.is_given() {
            true => {
                let tokens = usize::from(self.max_tokens);
                Some(Subject::of_conversation(&self.model, &self.conversation, tokens, &cpu)?)
            }
            false => None,
        };
        let subjects: Box<dyn Iterator<Item = Result<Subject, Failure>>> = match &recorded {
            Some(recorded) => Box::new(recorded.subjects()),
            None => Box::new(std::iter::once(Subject::open(&self.model, self.seed, &*device))),
        };
        let (mut operations, mut runs, mut timeline) = (0, 0, Vec::new());
        for subject in subjects {
            let subject = subject?;
            if self.trace.is_some() {
                timeline.extend(timed(&subject, &*device, &cpu)?);
            }
            walk(&subject.graph, &subject.inputs, &*device, &cpu, self.nmse, |v| match v.agrees() {
                true => Ok(ControlFlow::Continue(())),
                false => Err(self.difference(&v, subject.graph.name())?),
            })?;
            operations += subject.graph.nodes().len();
            runs += 1;
        }
        if let Some(file) = &self.trace {
            write_file(file, chrome_trace(&timeline).to_string().as_bytes())?;
            eprintln!("timeline of {} steps written to {}", timeline.len(), file.display());
        }
        if self.json {
            println!(
                "{}",
                json!({ "device": self.id, "agrees": true, "runs": runs, "operations": operations })
            );
            return Ok(());
        }
        let of_runs = if runs > 1 { format!(" of {runs} runs") } else { String::new() };
        println!("{} agrees with cpu in all {operations} operations{of_runs}", self.id);
        Ok(())
    }

    /// Writes the graph that reproduces a difference, and gives the failure that names it.
    fn difference(&self, v: &Visit<'_>, graph: &str) -> Result<Failure, Failure> {
        let out = self.out.clone().unwrap_or_else(|| self.model.with_extension("diff.graph"));
        write_file(&out, v.standalone()?.to_string().as_bytes())?;
        if self.json {
            let document = json!({
                "device": self.id, "agrees": false, "run": graph, "index": v.index, "op": v.node.op.name(),
                "module": &*v.node.path, "error": v.error, "allowed": v.allowed, "graph": out,
            });
            println!("{document}");
        }
        let place = if v.node.path.is_empty() { String::new() } else { format!(" in {}", v.node.path) };
        Ok(Failure::Negative(format!(
            "operation {} of {graph}, {}{place}, differs on {}: error {:.3e}, allowed {:.0e}; {} reproduces it",
            v.index,
            v.node.op.name(),
            self.id,
            v.error,
            v.allowed,
            out.display()
        )))
    }
}

/// The timeline of the whole graph on the device.
fn timed(subject: &Subject, device: &dyn Device, cpu: &Arc<dyn Device>) -> Result<Vec<OpTiming>, Failure> {
    let options = CompileOptions { host: Some(cpu.clone()), ..CompileOptions::default() };
    let graph = &subject.graph;
    let executable = device.compile(graph, &options)?;
    let inputs = graph.inputs().iter().zip(&subject.inputs);
    let args = inputs
        .map(|(i, bytes)| device.upload(graph.ty(i.value), bytes).map(Arg::Donate))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(executable.run_timed(args)?.1)
}
