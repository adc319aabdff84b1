//! The load of a mixture's experts in training: the loss that balances it, and what is said of it.

use std::collections::BTreeMap;

use percept_graph::{DType, Tensor};
use percept_hal::{Buffer, Device};
use percept_model::{Decoder, Routing};
use serde::Serialize;

use crate::communicator::Communicator;
use crate::error::Result;
use crate::trainer::floats;

/// Which rows of a batch are tokens of samples, f32[rows]: the others go to experts too, and do not count.
pub const LIVE: &str = "live";
/// The balancing loss of a step, f32[].
pub const BALANCE: &str = "balance";
/// How many rows went to each expert, f32[mixtures,experts].
pub const LOADS: &str = "loads";

/// How a step's rows were spread over experts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RouterReport {
    /// The balancing loss before it is weighted: the least it can be is the number of experts that a row goes
    /// through, when all have equal loads.
    pub balance: f64,
    /// The load of the busiest expert over an even share, in the layer where that is greatest.
    pub busiest: f64,
    /// The share of all layers' experts that no row went to.
    pub idle: f64,
}

impl RouterReport {
    /// Of the loads [mixtures,experts] of a step.
    pub fn new(balance: f64, loads: &[f32], experts: usize) -> Self {
        let busiest = |loads: &[f32]| {
            let (most, all) = (loads.iter().fold(0f32, |m, l| m.max(*l)), loads.iter().sum::<f32>());
            if all > 0.0 { f64::from(most / all) * loads.len() as f64 } else { 0.0 }
        };
        let idle = loads.iter().filter(|load| **load == 0.0).count();
        Self {
            balance,
            busiest: loads.chunks(experts.max(1)).map(busiest).fold(0.0, f64::max),
            idle: idle as f64 / loads.len().max(1) as f64,
        }
    }
}

/// The loads of a step, added up over its pieces and processes.
pub struct Loads {
    /// The balancing loss, then the loads.
    values: Vec<f32>,
    experts: usize,
}

impl Loads {
    /// Of a model, before anything is added. A process without a piece of a step has them too.
    pub fn new(decoder: &Decoder) -> Self {
        let mixtures = || decoder.stack.blocks.iter().filter_map(|b| b.mixture.as_ref());
        let experts = mixtures().map(|m| m.experts).next().unwrap_or(0);
        let count = mixtures().count();
        Self { values: vec![0.0; if count > 0 { 1 + count * experts } else { 0 }], experts }
    }

    /// Adds those of one piece, if there are any.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(&mut self, device: &dyn Device, outputs: &BTreeMap<String, Buffer>) -> Result<()> {
        let (Some(balance), Some(loads)) = (outputs.get(BALANCE), outputs.get(LOADS)) else { return Ok(()) };
        let own = [floats(&device.read(balance)?), floats(&device.read(loads)?)].concat();
        self.values.iter_mut().zip(own).for_each(|(all, own)| *all += own);
        Ok(())
    }

    /// Adds those of the other processes.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn sum(&mut self, peers: &dyn Communicator) -> Result<()> {
        if self.values.is_empty() { Ok(()) } else { peers.sum(&mut self.values) }
    }

    /// What is said of them.
    pub fn report(&self) -> Option<RouterReport> {
        let (balance, loads) = self.values.split_first()?;
        Some(RouterReport::new(f64::from(*balance), loads, self.experts))
    }
}

/// The weight of the balancing loss that a model's configuration asks for; `None` for a model without mixtures.
pub fn usual_weight(decoder: &Decoder) -> Option<f32> {
    decoder.stack.blocks.iter().filter_map(|b| b.mixture.as_ref()).map(|m| m.balance).next()
}

/// The balancing loss of Switch Transformer (Fedus et al. 2021, equations 4 to 6) over the rows of all mixtures together,
/// as transformers computes it: experts x sum over experts of the rows that chose one, per row, times the mean of its scores. And
/// the loads [mixtures,experts]. Mixtures have equally many experts; `None` without any.
pub fn balance(routings: &[Routing], live: &Tensor) -> Option<[Tensor; 2]> {
    let experts = routings.first()?.scores.dim(1);
    let loads_of = |routing: &Routing| {
        let spread = [routing.experts.dim(0), routing.experts.dim(1), experts];
        let numbers = live.trace().iota(DType::I32, spread, 2);
        let chose = routing.experts.unsqueeze(2).eq(&numbers).cast(DType::F32);
        (chose * live.reshape([spread[0], 1, 1])).sum([0, 1]).reshape([1, experts])
    };
    let loads: Vec<Tensor> = routings.iter().map(loads_of).collect();
    let loads = Tensor::concat(&loads.iter().collect::<Vec<_>>(), 0)?;
    let scores = routings.iter().map(|routing| (&routing.scores * live.unsqueeze(1)).sum([0]));
    let scores = scores.reduce(|a, b| a + b)?;
    // A batch that has no tokens has no loss either.
    let rows = (live.sum([0]) * routings.len() as f64).maximum(&live.like(1.0));
    let loss = (loads.sum([0]) / &rows * (scores / &rows)).sum([0]) * experts as f64;
    Some([loss, loads])
}

#[cfg(test)]
mod tests {
    use percept_graph::reference::evaluate;
    use percept_graph::{HostTensor, Trace};

    use super::*;

    // Worked out by hand: two layers, three experts, rows 0 and 2 count.
    #[test]
    fn rows_that_count_are_balanced_over_all_layers() {
        let t = Trace::new("balance");
        let live = t.data(LIVE, DType::F32, [3]);
        let layer = |i: usize| Routing {
            experts: t.data(format!("experts.{i}"), DType::I32, [3, 1]),
            weights: t.full(DType::F32, [3, 1], 1.0),
            scores: t.data(format!("scores.{i}"), DType::F32, [3, 3]),
        };
        let [loss, loads] = balance(&[layer(0), layer(1)], &live).unwrap();
        t.output("loss", &loss);
        t.output("loads", &loads);
        let graph = t.finish().unwrap();
        let scores = [
            [0.5, 0.25, 0.25, 1.0, 0.0, 0.0, 0.25, 0.25, 0.5],
            [0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 0.0],
        ];
        let inputs: Vec<HostTensor> = graph
            .inputs()
            .iter()
            .map(|i| match &i.name[..] {
                LIVE => HostTensor::from_f32([3], &[1.0, 0.0, 1.0]),
                "experts.0" => HostTensor::from_i32([3, 1], &[0, 1, 2]),
                "experts.1" => HostTensor::from_i32([3, 1], &[1, 1, 1]),
                "scores.0" => HostTensor::from_f32([3, 3], &scores[0]),
                _ => HostTensor::from_f32([3, 3], &scores[1]),
            })
            .collect::<Result<_, _>>()
            .unwrap();
        let out = evaluate(&graph, &inputs).unwrap();
        // Loads 1 2 1 of four rows; scores add up to 1.25, 2, 0.75.
        let expected = 3.0 * (1.0 * 1.25 + 2.0 * 2.0 + 1.0 * 0.75) / 16.0;
        assert!((out[0].values()[0] - expected).abs() < 1e-6, "{:?}", out[0].values());
        assert_eq!(out[1].values(), [1.0, 0.0, 1.0, 0.0, 2.0, 0.0]);
        let loads: Vec<f32> = out[1].values().iter().map(|v| *v as f32).collect();
        let report = RouterReport::new(expected, &loads, 3);
        assert_eq!((report.busiest, report.idle), (3.0, 0.5));
    }
}
