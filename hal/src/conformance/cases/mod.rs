//! The one table of cases, by kind of operation.

mod attention;
mod contract;
mod dot;
mod elementwise;
mod endurance;
mod gradients;
mod indexing;
mod invariance;
mod memory;
mod movement;
mod network;
mod ragged;
mod recurrent;
mod reduction;
mod spatial;
mod throughput;
mod training;

use percept_graph::DType;

use super::case::Case;
use super::table::Table;

/// The float dtypes.
const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The dtypes without blocks.
const DENSE: [DType; 7] =
    [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8, DType::Bool];

/// The block-quantized dtypes.
const QUANTIZED: [DType; 6] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K, DType::Q8X];

/// Every case, lowest rung first.
pub fn all() -> Vec<Case> {
    let mut t = Table::default();
    memory::add(&mut t);
    contract::add(&mut t);
    elementwise::add(&mut t);
    movement::add(&mut t);
    reduction::add(&mut t);
    indexing::add(&mut t);
    dot::add(&mut t);
    network::add(&mut t);
    ragged::add(&mut t);
    attention::add(&mut t);
    spatial::add(&mut t);
    recurrent::add(&mut t);
    gradients::add(&mut t);
    training::add(&mut t);
    invariance::add(&mut t);
    endurance::add(&mut t);
    throughput::add(&mut t);
    t.finish()
}
