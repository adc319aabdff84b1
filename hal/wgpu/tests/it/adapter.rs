//! The adapter that the tests run on, and graphs on it held to the f64 reference.

use percept_graph::reference::evaluate;
use percept_graph::{DType, Graph, HostTensor, TensorType, Trace};
use percept_hal::{Arg, CompileOptions, Device, KernelBackedDevice};
use percept_wgpu::WgpuDevice;

use crate::needs;

/// The first adapter. `None`, and the test is recorded as skipped, where the machine has no adapter at all.
#[track_caller]
pub fn open() -> Option<WgpuDevice> {
    if percept_wgpu::adapters().is_empty() {
        needs::skip(
            "there is no Vulkan, Metal, DX12 or GL adapter: `cargo xtask setup` installs a software driver",
        );
        return None;
    }
    Some(WgpuDevice::open(0).unwrap())
}

/// The adapter as a device that compiles graphs.
#[track_caller]
pub fn device() -> Option<KernelBackedDevice<WgpuDevice>> {
    open().map(KernelBackedDevice::new)
}

pub fn graph(build: impl FnOnce(&Trace)) -> Graph {
    let t = Trace::new("test");
    build(&t);
    t.finish().unwrap()
}

/// Values in [-2, 2) that are exact in bf16.
pub fn values(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) % 256) as f64 / 64.0 - 2.0
    };
    (0..n).map(|_| next()).collect()
}

/// A tensor of a dense dtype with small values that suit it.
pub fn tensor(dtype: DType, dims: &[usize], seed: u64) -> HostTensor {
    let ty = TensorType::new(dtype, dims);
    let v = values(ty.numel(), seed);
    if dtype.is_quantized() {
        let v: Vec<f32> = v.iter().map(|&x| x as f32).collect();
        return HostTensor::new(ty, percept_graph::quantize(dtype, &v).unwrap()).unwrap();
    }
    let v = match dtype {
        DType::Bool => v.iter().map(|x| (*x > 0.0) as u8 as f64).collect(),
        DType::I32 => v.iter().map(|x| (x * 64.0).trunc()).collect(),
        DType::U32 | DType::U8 => v.iter().map(|x| (x.abs() * 64.0).trunc()).collect(),
        _ => v,
    };
    HostTensor::from_f64(ty, &v).unwrap()
}

pub fn inputs_of(g: &Graph) -> Vec<HostTensor> {
    let ty = |i: &percept_graph::Input| g.ty(i.value).clone();
    g.inputs()
        .iter()
        .enumerate()
        .map(|(i, input)| tensor(ty(input).dtype, &ty(input).dims, i as u64 + 1))
        .collect()
}

pub fn upload(device: &dyn Device, g: &Graph, inputs: &[HostTensor]) -> Vec<Arg> {
    let donated = g.donated();
    let buffers = inputs.iter().map(|t| device.upload(t.ty(), t.bytes()).unwrap());
    buffers
        .enumerate()
        .map(|(i, b)| if donated.contains(&i) { Arg::Donate(b) } else { Arg::Borrow(b) })
        .collect()
}

pub fn run(
    device: &dyn Device,
    g: &Graph,
    inputs: &[HostTensor],
    options: &CompileOptions,
) -> Vec<HostTensor> {
    let executable = device.compile(g, options).unwrap_or_else(|e| panic!("{e}\n{g}"));
    let outputs = executable.run(upload(device, g, inputs)).unwrap_or_else(|e| panic!("{e}\n{g}"));
    outputs.iter().map(|b| HostTensor::new(b.ty().clone(), device.read(b).unwrap()).unwrap()).collect()
}

/// Compare with the reference: integers exactly, floats within `tolerance` of the magnitude; NaN and infinities alike.
pub fn check_with(device: &dyn Device, g: &Graph, inputs: &[HostTensor], tolerance: f64) {
    let expected = evaluate(g, inputs).unwrap_or_else(|e| panic!("{e}\n{g}"));
    for fuse in [true, false] {
        let got = run(device, g, inputs, &CompileOptions { fuse, ..CompileOptions::default() });
        for ((e, a), o) in expected.iter().zip(&got).zip(g.outputs()) {
            assert_eq!(e.ty(), a.ty());
            for (i, (x, y)) in e.values().iter().zip(a.values()).enumerate() {
                let close =
                    x.is_nan() && y.is_nan() || *x == y || (x - y).abs() <= tolerance * x.abs().max(1.0);
                assert!(close, "output {} of {} at {i}: expected {x}, got {y}\n{g}", o.name, e.ty());
            }
        }
    }
}

pub fn check(device: &dyn Device, g: &Graph) {
    check_with(device, g, &inputs_of(g), 2e-6);
}
