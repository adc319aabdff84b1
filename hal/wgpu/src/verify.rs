//! Features that drivers report and get wrong are believed after a small computation has come out right.

use std::sync::Arc;

use percept_hal::{Dispatch, Result, Window};
use percept_kernels::{Module, Needs};

use crate::batch::Batch;
use crate::connection::Connection;
use crate::memory;

/// Half-precision arithmetic: products and sums that are exact in f16.
const F16: &str = "enable f16;
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(1) @binding(0) var<uniform> p: vec4<u32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32) {
    let a = f16(i & ~1u);
    let b = vec4<f16>(a, a + 1h, a * 2h, 0.5h) * vec4<f16>(1h, 2h, 0.25h, a);
    x[i] = u32(f32(b.x + b.y + b.z + b.w)) + p.x;
}";

/// Sums and maxima over a subgroup, and its size.
const SUBGROUP: &str = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(1) @binding(0) var<uniform> p: vec4<u32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let sum = subgroupAdd(lane);
    let greatest = subgroupMax(lane);
    let first = subgroupBroadcastFirst(lane);
    let right = sum == size * (size - 1u) / 2u && greatest == size - 1u && first == 0u;
    x[i] = select(0u, size, right) + p.x;
}";

/// Whether f16 arithmetic is right.
pub(crate) fn f16(connection: &Arc<Connection>) -> bool {
    if !connection.features.contains(wgpu::Features::SHADER_F16) {
        return false;
    }
    let expected = |i: u32| i + 2 * (i + 1) + i / 2 + i / 2;
    matches!(run(connection, "f16", F16, Needs { f16: true, ..Needs::default() }),
        Ok(words) if words.iter().enumerate().all(|(i, &w)| w == expected(i as u32 & !1)))
}

/// The subgroup size, if it is fixed and subgroup operations are right.
pub(crate) fn subgroup_size(connection: &Arc<Connection>, info: &wgpu::AdapterInfo) -> Option<u32> {
    let size = info.subgroup_min_size;
    if !connection.features.contains(wgpu::Features::SUBGROUP)
        || size != info.subgroup_max_size
        || 64 % size != 0
    {
        return None;
    }
    let words = run(connection, "subgroup", SUBGROUP, Needs { subgroups: true, ..Needs::default() }).ok()?;
    words.iter().all(|&w| w == size).then_some(size)
}

/// Run one workgroup of 64 over 64 words that start as all ones.
fn run(connection: &Arc<Connection>, name: &str, source: &str, needs: Needs) -> Result<Vec<u32>> {
    let module = Module { key: format!("verify-{name}"), source: source.into(), needs };
    let memory = memory::upload(connection, &[0xff; 256], name)?;
    let dispatch = Dispatch {
        module,
        checked: true,
        groups: [1, 1, 1],
        params: vec![0; 4],
        bindings: vec![Window { memory: 0, offset: 0, bytes: 256 }],
        op: format!("check of {name}"),
    };
    let batch = Batch::record(connection, vec![dispatch])?;
    batch.submit(connection, &[&memory])?;
    let bytes = memory::read(connection, &memory, 0, 256)?.wait()?;
    Ok(bytes.chunks_exact(4).map(|c| c.iter().rev().fold(0, |a, &b| a << 8 | b as u32)).collect())
}
