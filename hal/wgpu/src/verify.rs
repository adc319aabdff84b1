//! Features that drivers may report wrongly are used only after a small computation gave the right result.

use std::sync::Arc;

use percept_graph::{DType, DotSpec, HostTensor, Op, OpDesc, TensorType};
use percept_hal::{Dispatch, Result, Window};
use percept_kernels::{Caps, Cooperative, Module, Needs, Slot};

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

/// Sums and maxima over a subgroup, its size, and that subgroups follow one another in a workgroup.
const SUBGROUP: &str = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(1) @binding(0) var<uniform> p: vec4<u32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let sum = subgroupAdd(lane);
    let greatest = subgroupMax(lane);
    let first = subgroupBroadcastFirst(lane);
    let third = subgroupBroadcast(i, 3u);
    let right = sum == size * (size - 1u) / 2u && greatest == size - 1u && first == 0u && lane == i % size
        && third == i - lane + 3u;
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

/// The first kind of cooperative matrices, the largest of f16 before others, by which a small product comes
/// out right.
pub(crate) fn cooperative_matrix(
    connection: &Arc<Connection>,
    adapter: &wgpu::Adapter,
    caps: &Caps,
) -> Option<Cooperative> {
    if !connection.features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return None;
    }
    let mut kinds: Vec<Cooperative> = Vec::new();
    for p in adapter.cooperative_matrix_properties() {
        let operand = match p.ab_type {
            wgpu::CooperativeScalarType::F16 if caps.f16 => DType::F16,
            wgpu::CooperativeScalarType::F32 => DType::F32,
            _ => continue,
        };
        let square = p.m_size == p.n_size && p.n_size == p.k_size && matches!(p.m_size, 8 | 16);
        if square && p.cr_type == wgpu::CooperativeScalarType::F32 {
            kinds.push(Cooperative { size: p.m_size, operand });
        }
    }
    kinds.sort_by_key(|k| (k.operand != DType::F16, std::cmp::Reverse(k.size)));
    kinds.into_iter().find(|&kind| matches!(product(connection, caps, kind), Ok(true)))
}

/// Whether a product of 32 by 32 small integers by these matrices is exact.
fn product(connection: &Arc<Connection>, caps: &Caps, kind: Cooperative) -> Result<bool> {
    const N: usize = 32;
    let dims = [N, N];
    let value = |seed: usize| (0..N * N).map(|i| ((i * seed + i / N) % 7) as f64 - 3.0).collect::<Vec<_>>();
    let (a, b) = (value(3), value(5));
    let expected: Vec<f32> = (0..N * N)
        .map(|at| (0..N).map(|k| a[at / N * N + k] * b[k * N + at % N]).sum::<f64>() as f32)
        .collect();
    let operand = TensorType::new(kind.operand, dims);
    let inputs = [operand.clone(), operand.clone()];
    let outputs = [TensorType::new(DType::F32, dims)];
    let op = Op::Dot(DotSpec {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![1],
        rhs_contract: vec![0],
        accum: DType::F32,
        out: DType::F32,
    });
    let caps = Caps { cooperative_matrix: Some(kind), software: false, ..caps.clone() };
    let desc = OpDesc { op: &op, inputs: &inputs, outputs: &outputs };
    let Ok(program) = percept_kernels::lower(&desc, &caps) else { return Ok(false) };
    let mut memories = Vec::new();
    for values in [&a, &b] {
        let Ok(tensor) = HostTensor::from_f64(operand.clone(), values) else { return Ok(false) };
        memories.push(memory::upload(connection, tensor.bytes(), "check of matrices")?);
    }
    let result = memories.len();
    for bytes in std::iter::once(N as u64 * N as u64 * 4).chain(program.scratch.iter().copied()) {
        memories.push(memory::zeros(connection, bytes, "check of matrices")?);
    }
    let window = |slot: &Slot| {
        let memory = match *slot {
            Slot::Input(i) | Slot::InputPart { input: i, .. } => i,
            Slot::Output(i) => result + i,
            Slot::Scratch(i) => result + 1 + i,
        };
        Window { memory, offset: 0, bytes: memories[memory].buffer().size() }
    };
    let dispatches = program.launches.iter().map(|launch| Dispatch {
        module: launch.module.clone(),
        checked: true,
        groups: launch.groups,
        params: launch.params.clone(),
        bindings: launch.bindings.iter().map(window).collect(),
        op: "check of matrices".into(),
    });
    let batch = Batch::record(connection, dispatches.collect())?;
    batch.submit(connection, &memories.iter().collect::<Vec<_>>())?;
    let bytes = memory::read(connection, &memories[result], 0, N as u64 * N as u64 * 4)?.wait()?;
    let got = bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    Ok(got.eq(expected))
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
