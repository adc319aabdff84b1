//! A compiled graph with its weights in place.

use percept_graph::{Graph, Role, TensorType};
use percept_hal::{Arg, Buffer, CompileOptions, Device, Executable, TraceEvent, Uses};
use percept_model::uses;

use crate::error::Result;

/// A compiled graph whose parameters are bound; the rest is given by name at each run.
pub struct Program {
    graph: Graph,
    executable: Box<dyn Executable>,
    bound: Vec<Option<Buffer>>,
    donated: Vec<bool>,
}

impl Program {
    /// Compile a graph; `load` gives a parameter by name, type and uses.
    ///
    /// # Errors
    /// When an operation does not run on the device, or a parameter cannot be loaded.
    pub fn compile(
        device: &dyn Device,
        graph: Graph,
        options: &CompileOptions,
        mut load: impl FnMut(&str, &TensorType, Uses) -> Result<Buffer>,
    ) -> Result<Self> {
        let executable = device.compile(&graph, options)?;
        let uses = uses(&graph);
        let mut bound = Vec::with_capacity(graph.inputs().len());
        for (input, uses) in graph.inputs().iter().zip(uses) {
            bound.push(match input.role {
                Role::Parameter => Some(load(&input.name, graph.ty(input.value), uses)?),
                _ => None,
            });
        }
        let replaced = graph.donated();
        let donated = (0..bound.len()).map(|i| replaced.contains(&i)).collect();
        Ok(Self { graph, executable, bound, donated })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the compilation decided.
    pub fn report(&self) -> &percept_hal::CompileReport {
        self.executable.report()
    }

    /// Run on `argument`s by name and type; gives the outputs in the graph's order.
    ///
    /// # Errors
    /// When an argument cannot be made or the device fails.
    pub fn run(&self, argument: impl FnMut(&str, &TensorType) -> Result<Buffer>) -> Result<Vec<Buffer>> {
        Ok(self.executable.run(self.arguments(argument)?)?)
    }

    /// As [`Program::run`], timing operations one by one.
    ///
    /// # Errors
    /// As there.
    pub fn run_traced(
        &self,
        argument: impl FnMut(&str, &TensorType) -> Result<Buffer>,
    ) -> Result<(Vec<Buffer>, Vec<TraceEvent>)> {
        Ok(self.executable.run_traced(self.arguments(argument)?)?)
    }

    fn arguments(&self, mut argument: impl FnMut(&str, &TensorType) -> Result<Buffer>) -> Result<Vec<Arg>> {
        let inputs = self.graph.inputs().iter().zip(&self.bound).zip(&self.donated);
        inputs
            .map(|((input, bound), donated)| {
                let buffer = match bound {
                    Some(weight) => weight.clone(),
                    None => argument(&input.name, self.graph.ty(input.value))?,
                };
                Ok(if *donated { Arg::Donate(buffer) } else { Arg::Borrow(buffer) })
            })
            .collect()
    }
}
