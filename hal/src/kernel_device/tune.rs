//! Autotuning: the fastest of several kernels that give the same bits, measured once per kind of shape and
//! remembered.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use percept_graph::{Composite, Op, OpDesc, TensorType, infer};
use percept_kernels::{Caps, KernelProgram, Slot, variants};

use super::backed_device::Shared;
use super::device::{Dispatch, KernelDevice, Window};
use super::layout::device_bytes;
use crate::error::Result;

/// Time to spend on one kind of shape, compiling the candidates included.
const BUDGET: Duration = Duration::from_millis(300);
/// Rows and columns are measured up to this extent, and sums up to twice it; what is larger behaves alike.
const EXTENT: usize = 256;

/// The variant to lower an operation with; `None` for the kernels' own choice.
pub(super) fn choose<K: KernelDevice>(shared: &Shared<K>, op: &OpDesc<'_>, caps: &Caps) -> Option<u32> {
    let count = variants(op.op);
    if count < 2 {
        return None;
    }
    let (inputs, outputs) = proxy(op)?;
    let op = OpDesc { op: op.op, inputs: &inputs, outputs: &outputs };
    let mut candidates: Vec<(u32, KernelProgram)> = Vec::new();
    let base = percept_kernels::lower(&op, caps).ok()?;
    for v in 0..count {
        let program = percept_kernels::lower(&op, &Caps { variant: Some(v), ..caps.clone() });
        let Ok(program) = program else { continue };
        if !candidates.iter().any(|(_, p)| *p == program) {
            candidates.push((v, program));
        }
    }
    if let [(only, _)] = candidates[..] {
        return Some(only);
    }
    // What the kernels would choose is measured first, so that a short budget never makes things worse.
    candidates.sort_by_key(|(_, p)| *p != base);
    let key = key(&op, &candidates);
    let known = || {
        let tuned = shared.tuned.lock().unwrap_or_else(PoisonError::into_inner);
        tuned.get(&key).copied().or_else(|| shared.device.recall(&key))
    };
    if let Some(v) = known() {
        return Some(v);
    }
    // Nothing else may run on the device meanwhile, and no other thread measures the same.
    let _stream = shared.arena.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(v) = known() {
        return Some(v);
    }
    let start = Instant::now();
    let mut best: Option<(Duration, u32)> = None;
    let mut measured = 0;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    for some in candidates.chunks(threads) {
        for ((v, _), trial) in some.iter().zip(prepare(&shared.device, &op, some)) {
            match trial.and_then(|t| t.time(&shared.device)) {
                Ok(time) if best.is_none_or(|(b, _)| time < b) => best = Some((time, *v)),
                Ok(_) => {}
                Err(e) => tracing::warn!("variant {v} of {} was not measured: {e}", op.op.name()),
            }
        }
        measured += some.len();
        if start.elapsed() > BUDGET {
            break;
        }
    }
    let (time, v) = best?;
    tracing::debug!("{key}: variant {v}, {time:?}, {measured} measured in {:?}", start.elapsed());
    shared.tuned.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), v);
    // What the budget cut short is measured again by the next process, which finds these pipelines compiled.
    if measured == candidates.len() {
        shared.device.remember(&[(key, v)]);
    }
    Some(v)
}

/// The kind of shape an operation belongs to: its types with large extents cut down.
fn proxy(op: &OpDesc<'_>) -> Option<(Vec<TensorType>, Vec<TensorType>)> {
    let mut inputs = op.inputs.to_vec();
    match op.op {
        Op::Dot(d) => {
            for (ty, batch, contract) in
                [(0, &d.lhs_batch, &d.lhs_contract), (1, &d.rhs_batch, &d.rhs_contract)]
            {
                for (i, extent) in inputs[ty].dims.iter_mut().enumerate() {
                    let most = match () {
                        () if batch.contains(&i) => 1,
                        () if contract.contains(&i) => 2 * EXTENT,
                        () => EXTENT,
                    };
                    *extent = class(*extent, most);
                }
            }
        }
        Op::Composite(Composite::Linear { bias, .. }) => {
            let k = class(*inputs[0].dims.last()?, 2 * EXTENT);
            let rows = inputs[0].numel() / (*inputs[0].dims.last()?).max(1);
            let n = class(inputs[1].dims[0], EXTENT);
            inputs[0].dims = vec![class(rows, EXTENT), k];
            inputs[1].dims = vec![n, k];
            if *bias {
                inputs[2].dims = vec![n];
            }
        }
        Op::Composite(Composite::QuantizedDot { transposed }) => {
            let rows = inputs[0].numel() / (*inputs[0].dims.last()?).max(1);
            let (n, k) = (class(inputs[1].dims[0], EXTENT), class(inputs[1].dims[1], 2 * EXTENT));
            // A row of the weight is whole blocks.
            let k = k.next_multiple_of(inputs[1].dtype.block_len());
            inputs[0].dims = vec![class(rows, EXTENT), if *transposed { n } else { k }];
            inputs[1].dims = vec![n, k];
        }
        _ => return None,
    }
    let outputs = infer(op.op, &inputs).ok()?;
    Some((inputs, outputs))
}

/// Extents up to 8 as they are, else the power of two at or below, which keeps what divides by vectors
/// divisible; at most `most`.
fn class(extent: usize, most: usize) -> usize {
    let odd = if extent.is_multiple_of(4) || extent < 8 { 0 } else { 1 };
    match extent {
        0..=8 => extent.min(most),
        _ => ((1 << extent.ilog2()) - odd).min(most - odd.min(most - 1)),
    }
}

/// Names the operation, the types measured, and the sources of the candidates, so that new kernels are
/// measured again.
fn key(op: &OpDesc<'_>, candidates: &[(u32, KernelProgram)]) -> String {
    let types: Vec<String> = op.inputs.iter().map(TensorType::to_string).collect();
    let sources = candidates.iter().flat_map(|(_, p)| &p.launches).flat_map(|l| l.module.key.bytes());
    let hash =
        sources.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{} {} {hash:016x}", op.op.name(), types.join(" "))
}

/// A candidate ready to run on zeros.
struct Trial<K: KernelDevice> {
    batch: K::Batch,
    memories: Vec<K::Memory>,
}

/// Make candidates ready, compiling them side by side.
fn prepare<K: KernelDevice>(
    device: &K,
    op: &OpDesc<'_>,
    candidates: &[(u32, KernelProgram)],
) -> Vec<Result<Trial<K>>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            candidates.iter().map(|(_, p)| scope.spawn(move || Trial::new(device, op, p))).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    })
}

impl<K: KernelDevice> Trial<K> {
    fn new(device: &K, op: &OpDesc<'_>, program: &KernelProgram) -> Result<Self> {
        let sizes =
            op.inputs.iter().chain(op.outputs).map(device_bytes).chain(program.scratch.iter().copied());
        let sizes: Vec<u64> = sizes.collect();
        let window = |slot: &Slot| {
            let memory = match *slot {
                Slot::Input(i) => i,
                Slot::InputPart { input, offset, bytes } => return Window { memory: input, offset, bytes },
                Slot::Output(i) => op.inputs.len() + i,
                Slot::Scratch(i) => op.inputs.len() + op.outputs.len() + i,
            };
            Window { memory, offset: 0, bytes: sizes[memory] }
        };
        let dispatch = |l: &percept_kernels::Launch| Dispatch {
            module: l.module.clone(),
            checked: false,
            groups: l.groups,
            params: l.params.clone(),
            bindings: l.bindings.iter().map(window).collect(),
            op: format!("{} (tuning)", op.op.name()),
        };
        let batch = device.record(program.launches.iter().map(dispatch).collect())?;
        let memories = sizes.iter().map(|&b| device.zeros(b, "tuning")).collect::<Result<Vec<_>>>()?;
        Ok(Self { batch, memories })
    }

    /// The shorter of two runs, after one that does not count.
    fn time(&self, device: &K) -> Result<Duration> {
        let memories: Vec<&K::Memory> = self.memories.iter().collect();
        let run = || -> Result<Duration> {
            let start = Instant::now();
            device.submit(&self.batch, &memories)?;
            device.synchronize()?;
            Ok(start.elapsed())
        };
        run()?;
        Ok(run()?.min(run()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_one_kind_share_a_measurement() {
        assert_eq!([1, 3, 8].map(|e| class(e, 256)), [1, 3, 8]);
        assert_eq!([1024, 4096, 300].map(|e| class(e, 256)), [256; 3]);
        assert_eq!([100, 64].map(|e| class(e, 256)), [64; 2]);
        assert_eq!(class(1001, 256), 255, "not divisible by four, as the extent");
        assert_eq!(class(7, 1), 1);
    }
}
