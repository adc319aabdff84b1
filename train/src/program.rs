//! A compiled graph whose arguments are found by name.

use std::collections::{BTreeMap, HashMap};

use percept_graph::Graph;
use percept_hal::{Arg, Buffer, CompileOptions, CompileReport, Device, Executable, TraceEvent};

use crate::error::{Error, Result};

/// What a run carries from step to step: parameters, moments, accumulated gradients.
#[derive(Default)]
pub struct State(pub HashMap<String, Buffer>);

/// A compiled graph.
pub struct Program {
    graph: Graph,
    executable: Box<dyn Executable>,
    donated: Vec<bool>,
}

impl Program {
    /// Compile a graph.
    ///
    /// # Errors
    /// When an operation does not run on the device.
    pub fn compile(device: &dyn Device, graph: Graph, options: &CompileOptions) -> Result<Self> {
        let executable = device.compile(&graph, options)?;
        let replaced = graph.donated();
        let donated = (0..graph.inputs().len()).map(|i| replaced.contains(&i)).collect();
        Ok(Self { graph, executable, donated })
    }

    /// What the compilation decided.
    pub fn report(&self) -> &CompileReport {
        self.executable.report()
    }

    /// Run over the state and this run's own arguments. What is updated in place goes back into the state; the other
    /// outputs are given by name. With a timeline, operations are timed one by one, which is slower.
    ///
    /// # Errors
    /// When an argument is missing or the device fails; the state is then lost.
    pub fn run(
        &self,
        state: &mut State,
        arguments: &HashMap<String, Buffer>,
        timeline: Option<&mut Vec<TraceEvent>>,
    ) -> Result<BTreeMap<String, Buffer>> {
        let mut args = Vec::with_capacity(self.donated.len());
        for (input, donated) in self.graph.inputs().iter().zip(&self.donated) {
            let missing = || Error::Setting(format!("the step's input '{}' was not given", input.name));
            args.push(if *donated {
                Arg::Donate(state.0.remove(&input.name).ok_or_else(missing)?)
            } else {
                let buffer = arguments.get(&input.name).or_else(|| state.0.get(&input.name));
                Arg::Borrow(buffer.cloned().ok_or_else(missing)?)
            });
        }
        let buffers = match timeline {
            Some(timeline) => {
                let (buffers, events) = self.executable.run_traced(args)?;
                let after = timeline.iter().map(|e| e.start_us + e.duration_us).fold(0.0, f64::max);
                timeline.extend(events.into_iter().map(|e| TraceEvent { start_us: e.start_us + after, ..e }));
                buffers
            }
            None => self.executable.run(args)?,
        };
        let mut others = BTreeMap::new();
        for (output, buffer) in self.graph.outputs().iter().zip(buffers) {
            match output.alias {
                Some(_) => {
                    state.0.insert(output.name.clone(), buffer);
                }
                None => {
                    others.insert(output.name.clone(), buffer);
                }
            }
        }
        Ok(others)
    }
}
