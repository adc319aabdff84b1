//! Functions from graph to graph, and the plan of a graph's memory.
//!
//! Whoever builds a graph applies, in this order and as needed, quantized weights, integer products,
//! gradients, mixed precision and rematerialisation. Every device then applies [`pipeline`] when it compiles:
//! folding, which leaves equal things looking equal; common subexpressions; dead code, which both leave
//! behind; fusion, last, because nothing looks into a region. Memory is planned on the result. Each pass
//! leaves the graph's inputs, outputs and aliases as they are, and no pass looks through a barrier.

mod cse;
mod dce;
mod fold;
mod fuse;
mod int8_dots;
mod memory;
mod mixed_precision;
mod quantize_weights;
mod rematerialize;
mod rewrite;
#[cfg(test)]
mod testing;

pub use cse::eliminate_common_subexpressions;
pub use dce::eliminate_dead_code;
pub use fold::fold;
pub use fuse::{FuseOptions, fuse};
pub use int8_dots::int8_dots;
pub use memory::{Memory, MemoryOptions, Slot, plan_memory};
pub use mixed_precision::mixed_precision;
pub use quantize_weights::quantize_weights;
pub use rematerialize::rematerialize;
pub use rewrite::Rewrite;

use crate::error::Result;
use crate::graph::Graph;

/// What [`pipeline`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassOptions {
    /// Limits of fused regions; `None` leaves elementwise operations as they are.
    pub fuse: Option<FuseOptions>,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self { fuse: Some(FuseOptions::default()) }
    }
}

/// Folding, common subexpressions, dead code and fusion.
pub fn pipeline(graph: &Graph, options: &PassOptions) -> Result<Graph> {
    let graph = fold(graph)?;
    let graph = eliminate_common_subexpressions(&graph)?;
    let graph = eliminate_dead_code(&graph)?;
    match &options.fuse {
        Some(limits) => fuse(&graph, limits),
        None => Ok(graph),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{assert_same_values, random_graph};

    #[test]
    fn every_pass_keeps_the_values_of_random_graphs() {
        let narrow = FuseOptions { max_operands: 3, max_results: 2, max_ops: 5, ..FuseOptions::default() };
        for seed in 0..400 {
            let g = random_graph(seed);
            assert_same_values(&g, &fold(&g).unwrap(), seed);
            assert_same_values(&g, &eliminate_common_subexpressions(&g).unwrap(), seed);
            assert_same_values(&g, &eliminate_dead_code(&g).unwrap(), seed);
            assert_same_values(&g, &fuse(&g, &narrow).unwrap(), seed);
            assert_same_values(&g, &pipeline(&g, &PassOptions::default()).unwrap(), seed);
        }
    }

    #[test]
    fn the_pipeline_is_idempotent() {
        for seed in 0..100 {
            let once = pipeline(&random_graph(seed), &PassOptions::default()).unwrap();
            let twice = pipeline(&once, &PassOptions::default()).unwrap();
            assert_eq!(once.nodes().len(), twice.nodes().len(), "{once}\n{twice}");
        }
    }
}
