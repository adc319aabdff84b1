//! A step's program over what a run carries from step to step.

use std::collections::{BTreeMap, HashMap};

use percept_hal::{Buffer, OpTiming};
use percept_infer::Program;

use crate::error::{Error, Result};

/// What a run carries from step to step: parameters, moments, accumulated gradients.
#[derive(Default)]
pub struct State(pub HashMap<String, Buffer>);

impl State {
    /// Run a program over the state and this run's own arguments. What is updated in place goes back into the
    /// state; the other outputs are given by name. With a timeline, operations are timed one by one, which is
    /// slower.
    ///
    /// # Errors
    /// When an argument is missing or the device fails; the state is then lost.
    pub fn run(
        &mut self,
        program: &Program,
        arguments: &HashMap<String, Buffer>,
        timeline: Option<&mut Vec<OpTiming>>,
    ) -> Result<BTreeMap<String, Buffer>> {
        let buffers = program.run(timeline, |i, name, _| {
            let missing = || Error::Setting(format!("the step's input '{name}' was not given"));
            if program.is_donated(i) {
                return self.0.remove(name).ok_or_else(missing);
            }
            arguments.get(name).or_else(|| self.0.get(name)).cloned().ok_or_else(missing)
        })?;
        let mut others = BTreeMap::new();
        for (output, buffer) in program.outputs().iter().zip(buffers) {
            match output.in_place {
                true => self.0.insert(output.name.clone(), buffer),
                false => others.insert(output.name.clone(), buffer),
            };
        }
        Ok(others)
    }
}
