//! The raw runtime: memory, batches, errors, loss, and what a dispatch costs.

use std::time::Instant;

use percept_hal::{Dispatch, Error, KernelDevice, Window};
use percept_kernels::{Module, Needs};

use crate::adapter;

/// x[i] = x[i] * p.scale + p.shift for i < p.n, groups folded over three dimensions.
const AFFINE: &str = "struct Params { n: u32, scale: u32, shift: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) g: vec3<u32>, @builtin(num_workgroups) gs: vec3<u32>, @builtin(local_invocation_index) l: u32) {
    let i = ((g.z * gs.y + g.y) * gs.x + g.x) * 64u + l;
    if i < p.n { x[i] = x[i] * p.scale + p.shift; }
}";

fn module(key: &str, source: &str) -> Module {
    Module { key: key.into(), source: source.into(), needs: Needs::default() }
}

fn affine(window: Window, scale: u32, shift: u32) -> Dispatch {
    let n = (window.bytes / 4) as u32;
    let groups = n.div_ceil(64);
    Dispatch {
        module: module("affine", AFFINE),
        checked: false,
        groups: [groups.min(65535), groups.div_ceil(65535), 1],
        params: vec![n, scale, shift],
        bindings: vec![window],
        op: "affine at layers.0".into(),
    }
}

fn bytes_of(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

#[test]
fn bytes_come_back() {
    let Some(device) = adapter::open() else { return };
    for length in [1usize, 3, 4, 6, 255, 256, 65_537, 300_001] {
        let sent: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
        let memory = device.upload(&sent, "test").unwrap();
        assert_eq!(device.read(&memory, 0, length as u64).unwrap().wait().unwrap(), sent, "{length} bytes");
    }
    let dirty = device.upload(&[0xff; 1000], "test").unwrap();
    drop(dirty);
    let zeros = device.zeros(1000, "test").unwrap();
    assert_eq!(
        device.read(&zeros, 0, 1000).unwrap().wait().unwrap(),
        [0; 1000],
        "a recycled block is cleared"
    );
}

#[test]
fn dispatches_of_a_batch_see_each_other() {
    let Some(device) = adapter::open() else { return };
    let x = device.upload(&bytes_of(0..1000), "x").unwrap();
    let all = Window { memory: 0, offset: 0, bytes: 4000 };
    let (head, part) = (Window { bytes: 256, ..all }, Window { offset: 256, bytes: 1024, ..all });
    let batch = device.record(vec![affine(all, 3, 1), affine(part, 2, 0), affine(head, 0, 9)]).unwrap();
    device.submit(&batch, &[&x]).unwrap();
    let expected = |i: u32| match i {
        0..64 => 9,
        64..320 => (3 * i + 1) * 2,
        _ => 3 * i + 1,
    };
    let read = words_of(&device.read(&x, 0, 4000).unwrap().wait().unwrap());
    assert_eq!(read, (0..1000).map(expected).collect::<Vec<_>>());
    device.write(&x, 400, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(device.read(&x, 400, 8).unwrap().wait().unwrap(), [1, 2, 3, 4, 5, 0, 0, 0]);
}

#[test]
fn more_groups_than_one_dimension_holds() {
    let Some(device) = adapter::open() else { return };
    let n = 65_535 * 64 + 12_345u32;
    let x = device.zeros(n as u64 * 4, "x").unwrap();
    let batch =
        device.record(vec![affine(Window { memory: 0, offset: 0, bytes: n as u64 * 4 }, 1, 7)]).unwrap();
    device.submit(&batch, &[&x]).unwrap();
    assert!(words_of(&device.read(&x, 0, n as u64 * 4).unwrap().wait().unwrap()).iter().all(|&w| w == 7));
}

#[test]
fn faulty_wgsl_names_the_operation_the_line_and_the_column() {
    let Some(device) = adapter::open() else { return };
    let window = Window { memory: 0, offset: 0, bytes: 256 };
    let mut d = affine(window, 1, 1);
    d.module = module("faulty", &AFFINE.replace("x[i] *", "y[i] *"));
    let e = device.record(vec![d]).err().expect("y is not declared").to_string();
    assert!(e.contains("affine at layers.0") && e.contains("7:25") && e.contains("`y`"), "{e}");
    let mut d = affine(window, 1, 1);
    d.groups = [100_000, 1, 1];
    let batch = device.record(vec![affine(window, 1, 1), d]);
    let x = device.zeros(256, "x").unwrap();
    let e = device.submit(&batch.unwrap(), &[&x]).expect_err("too many groups").to_string();
    assert!(e.contains("affine at layers.0") && e.contains("65535"), "{e}");
    let fine = device.record(vec![affine(Window { memory: 0, offset: 0, bytes: 256 }, 1, 1)]).unwrap();
    device.submit(&fine, &[&x]).unwrap();
    assert_eq!(words_of(&device.read(&x, 0, 256).unwrap().wait().unwrap()), [1; 64], "the device goes on");
}

#[test]
fn more_than_a_buffer_holds_is_refused_before_trying() {
    let Some(device) = adapter::open() else { return };
    for bytes in [device.limits().max_memory + 1, u64::MAX] {
        let e = device.allocate(bytes, "model.embed_tokens").err().expect("larger than the device");
        assert!(matches!(&e, Error::OutOfMemory { bytes: b, .. } if *b == bytes), "{e}");
        assert!(e.to_string().contains("model.embed_tokens"), "{e}");
    }
}

#[test]
fn a_lost_device_says_so_and_is_opened_again() {
    let Some(device) = adapter::open() else { return };
    let old = device.upload(&bytes_of(0..64), "x").unwrap();
    let batch = device.record(vec![affine(Window { memory: 0, offset: 0, bytes: 256 }, 2, 1)]).unwrap();
    device.submit(&batch, &[&old]).unwrap();
    device.close();
    assert!(matches!(device.submit(&batch, &[&old]), Err(Error::Lost { .. })));
    assert!(matches!(device.read(&old, 0, 256), Err(Error::Lost { .. })));
    let new = device.upload(&bytes_of(0..64), "x").unwrap();
    assert!(
        matches!(device.submit(&batch, &[&old]), Err(Error::Lost { .. })),
        "the old memory is still gone"
    );
    device.submit(&batch, &[&new]).unwrap();
    let read = words_of(&device.read(&new, 0, 256).unwrap().wait().unwrap());
    assert_eq!(read, (0..64).map(|i| 2 * i + 1).collect::<Vec<_>>(), "the batch goes on");
}

#[test]
fn memory_is_counted_and_comes_back() {
    let Some(device) = adapter::open() else { return };
    let before = device.memory().buffers;
    let kept = device.zeros(1 << 20, "kept").unwrap();
    assert_eq!(device.memory().buffers, before + (1 << 20));
    let large = device.zeros(32 << 20, "large").unwrap();
    drop(large);
    drop(kept);
    let after = device.memory();
    assert_eq!(after.buffers, before);
    assert!(after.scratch <= 64 << 20, "recycled blocks are bounded: {after:?}");
    let again = device.zeros(1 << 20, "again").unwrap();
    assert!(device.memory().scratch < after.scratch.max(1), "the small block was recycled");
    drop(again);
}

#[test]
fn threads_share_a_device() {
    let Some(device) = adapter::open() else { return };
    let batch = device.record(vec![affine(Window { memory: 0, offset: 0, bytes: 4096 }, 1, 1); 8]).unwrap();
    std::thread::scope(|scope| {
        for t in 0..4u32 {
            let (device, batch) = (&device, &batch);
            scope.spawn(move || {
                for round in 0..25 {
                    let x = device.upload(&bytes_of(vec![t * 1000 + round; 1024]), "x").unwrap();
                    device.submit(batch, &[&x]).unwrap();
                    let read = words_of(&device.read(&x, 0, 4096).unwrap().wait().unwrap());
                    assert!(read.iter().all(|&w| w == t * 1000 + round + 8));
                }
            });
        }
    });
}

/// The least time of a dispatch in microseconds, from recording to the end of its batch.
fn cost(device: &percept_wgpu::WgpuDevice, dispatch: Dispatch, x: &percept_wgpu::Memory) -> (f64, u32) {
    const RUNS: u32 = 40;
    let batch = device.record(vec![dispatch; 500]).unwrap();
    let run = || {
        let start = Instant::now();
        device.submit(&batch, &[x]).unwrap();
        device.synchronize().unwrap();
        start.elapsed().as_secs_f64() * 1e6 / 500.0
    };
    ((0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min), 500 * RUNS)
}

/// What a driver does for a group of a dispatch, waking the threads of a software one included, is not ours; a dispatch
/// of no groups goes through everything else: encoding, bind groups, barriers and submission.
#[test]
fn a_dispatch_in_a_pass_costs_microseconds() {
    let Some(device) = adapter::open() else { return };
    let x = device.zeros(256, "x").unwrap();
    let one = affine(Window { memory: 0, offset: 0, bytes: 256 }, 1, 1);
    let (ours, _) = cost(&device, Dispatch { groups: [0, 1, 1], ..one.clone() }, &x);
    let (all, times) = cost(&device, one, &x);
    println!("{all:.2} us a dispatch on {}, {ours:.2} without the driver's own", device.info().name);
    assert_eq!(words_of(&device.read(&x, 0, 4).unwrap().wait().unwrap()), [times]);
    assert!(ours < 12.0, "{ours:.2} us a dispatch before the driver computes");
}

#[test]
fn timed_runs_report_each_dispatch() {
    let Some(device) = adapter::open() else { return };
    let x = device.zeros(256, "x").unwrap();
    let batch = device.record(vec![affine(Window { memory: 0, offset: 0, bytes: 256 }, 1, 1); 500]).unwrap();
    let times = device.submit_timed(&batch, &[&x]).unwrap();
    assert_eq!(times.len(), 500);
    assert!(times.windows(2).all(|w| w[0].0 <= w[1].0) && times.iter().all(|t| t.1 >= 0.0 && t.1 < 1e6));
    assert_eq!(words_of(&device.read(&x, 0, 4).unwrap().wait().unwrap()), [500]);
}
