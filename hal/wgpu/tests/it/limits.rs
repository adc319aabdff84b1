//! A device whose kernels bind little at once: tensors in pieces, fallback to a host, and errors that name
//! what is left.

use std::sync::Arc;

use percept_graph::reference::evaluate;
use percept_graph::{DType, Graph, HostTensor, OpDesc, TensorType};
use percept_hal::{
    Arg, Buffer, CompileOptions, CompileReport, Device, DeviceInfo, DeviceKey, Dispatch, Error, Executable,
    KernelBackedDevice, KernelDevice, KernelLimits, MemoryUse, OpTiming, Pending, Support,
};
use percept_wgpu::WgpuDevice;

use crate::adapter::{self, check_with, graph, inputs_of, run, upload};

/// A device that lets kernels bind little at once.
struct Narrow {
    device: WgpuDevice,
    limits: KernelLimits,
}

impl KernelDevice for Narrow {
    type Memory = percept_wgpu::Memory;
    type Batch = percept_wgpu::Batch;

    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }
    fn limits(&self) -> &KernelLimits {
        &self.limits
    }
    fn allocate(&self, bytes: u64, what: &str) -> Result<Self::Memory, Error> {
        self.device.allocate(bytes, what)
    }
    fn zeros(&self, bytes: u64, what: &str) -> Result<Self::Memory, Error> {
        self.device.zeros(bytes, what)
    }
    fn upload(&self, bytes: &[u8], what: &str) -> Result<Self::Memory, Error> {
        self.device.upload(bytes, what)
    }
    fn write(&self, memory: &Self::Memory, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.device.write(memory, offset, bytes)
    }
    fn read(&self, memory: &Self::Memory, offset: u64, bytes: u64) -> Result<Pending, Error> {
        self.device.read(memory, offset, bytes)
    }
    fn record(&self, dispatches: Vec<Dispatch>) -> Result<Self::Batch, Error> {
        let longest = dispatches.iter().flat_map(|d| &d.bindings).map(|w| w.bytes).max();
        assert!(longest <= Some(self.limits.max_window), "{longest:?}");
        self.device.record(dispatches)
    }
    fn submit(&self, batch: &Self::Batch, memories: &[&Self::Memory]) -> Result<(), Error> {
        self.device.submit(batch, memories)
    }
    fn submit_timed(
        &self,
        batch: &Self::Batch,
        memories: &[&Self::Memory],
    ) -> Result<Vec<(f64, f64)>, Error> {
        self.device.submit_timed(batch, memories)
    }
    fn synchronize(&self) -> Result<(), Error> {
        self.device.synchronize()
    }
    fn memory(&self) -> MemoryUse {
        self.device.memory()
    }
    fn pipelines(&self) -> usize {
        self.device.pipelines()
    }
    fn recall(&self, _key: &str) -> Option<u32> {
        None
    }
    fn remember(&self, _measured: &[(String, u32)]) {}
}

fn narrow(max_window: u64) -> Option<KernelBackedDevice<Narrow>> {
    let device = adapter::open()?;
    let limits = KernelLimits { max_window, ..device.limits().clone() };
    Some(KernelBackedDevice::new(Narrow { device, limits }))
}

#[test]
fn tensors_past_the_binding_limit_are_worked_on_in_pieces() {
    let Some(device) = narrow(4096) else { return };
    for dtype in [DType::F32, DType::BF16] {
        let g = graph(|t| {
            let x = t.data("x", dtype, [301, 16]);
            let ids = t.data("ids", DType::I32, [2003]);
            t.output("chain", &((&x * 0.5).exp() - x.clone()));
            t.output("sum", &x.sum([1]));
            let (table, row) = (t.data("table", dtype, [5, 8]), t.data("row", DType::I32, [7]));
            t.output("gather", &table.gather(&ids, 0));
            t.output("copy", &x);
            t.output("repeat", &row.broadcast([600, 7], [1]));
        });
        check_with(&device, &g, &inputs_of(&g), if dtype == DType::F32 { 4e-6 } else { 3e-2 });
    }
}

#[test]
fn a_table_and_a_head_past_the_binding_limit_are_read_in_ranges() {
    let Some(device) = narrow(32768) else { return };
    for dtype in [DType::F32, DType::BF16, DType::Q8_0] {
        let float = if dtype.is_quantized() { DType::F32 } else { dtype };
        let g = graph(|t| {
            let ids = t.data("ids", DType::I32, [19]);
            let table = t.data("table", dtype, [301, 256]);
            t.output("rows", &table.embedding(&ids, float));
            for rows in [1, 3] {
                let x = t.data(format!("x{rows}"), float, [rows, 256]);
                t.output(format!("y{rows}"), &x.linear(&table, None, None));
            }
        });
        let mut inputs = inputs_of(&g);
        let ids: Vec<f64> = (0..19).map(|i| (i * 61 % 320) as f64 - 9.0).collect();
        inputs[0] = HostTensor::from_f64(inputs[0].ty().clone(), &ids).unwrap();
        let executable = device.compile(&g, &CompileOptions::default()).unwrap();
        assert!(executable.report().launches > 6, "{} launches for {dtype}", executable.report().launches);
        check_with(&device, &g, &inputs, if float == DType::F32 { 2e-5 } else { 5e-2 });
    }
}

#[test]
fn regions_are_as_wide_as_the_adapter_binds() {
    let Some(device) = adapter::open() else { return };
    let mut limits = device.limits().clone();
    limits.caps.max_bindings = 4;
    let device = KernelBackedDevice::new(Narrow { device, limits });
    let g = graph(|t| {
        let x: Vec<_> = (0..9).map(|i| t.data(format!("x{i}"), DType::F32, [33])).collect();
        let sum = x.iter().skip(1).fold(x[0].clone(), |sum, x| sum.tanh() + x * 0.5);
        t.output("sum", &sum);
    });
    check_with(&device, &g, &inputs_of(&g), 4e-6);
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    // Two new operands a region, beside the sum so far and the sum after it.
    assert_eq!(executable.report().launches, 4, "not one launch for each operation");
}

#[test]
fn what_does_not_run_is_named() {
    let Some(device) = narrow(4096) else { return };
    let g = graph(|t| {
        let _scope = t.scope("model.norm");
        let x = t.data("x", DType::F32, [1025]);
        t.output("y", &x.sort(0, false, 4)[0]);
    });
    let e = device.compile(&g, &CompileOptions::default()).err().expect("past the binding limit").to_string();
    for part in ["model.norm", "sort", "f32[1025]", "4096", "no host"] {
        assert!(e.contains(part), "{part}: {e}");
    }
}

/// A host that computes with the reference.
struct ReferenceHost {
    key: DeviceKey,
    info: DeviceInfo,
}

struct ReferenceProgram {
    graph: Graph,
    key: DeviceKey,
    report: CompileReport,
}

impl Device for ReferenceHost {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn supports(&self, _op: &OpDesc<'_>) -> Support {
        Support::Native
    }
    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer, Error> {
        Ok(Buffer::new(self.key, ty.clone(), HostTensor::new(ty.clone(), bytes).unwrap()))
    }
    fn zeros(&self, ty: &TensorType) -> Result<Buffer, Error> {
        self.upload(ty, &vec![0; ty.bytes()])
    }
    fn read_async(&self, src: &Buffer) -> Result<Pending, Error> {
        Ok(Pending::ready(src.storage::<HostTensor>().unwrap().bytes().to_vec()))
    }
    fn compile(&self, graph: &Graph, _options: &CompileOptions) -> Result<Box<dyn Executable>, Error> {
        let report = CompileReport::default();
        Ok(Box::new(ReferenceProgram { graph: graph.clone(), key: self.key, report }))
    }
    fn synchronize(&self) -> Result<(), Error> {
        Ok(())
    }
    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
}

impl Executable for ReferenceProgram {
    fn run(&self, args: Vec<Arg>) -> Result<Vec<Buffer>, Error> {
        let inputs: Vec<HostTensor> =
            args.iter().map(|a| a.buffer().storage::<HostTensor>().unwrap().clone()).collect();
        let outputs = evaluate(&self.graph, &inputs).unwrap();
        Ok(outputs.into_iter().map(|t| Buffer::new(self.key, t.ty().clone(), t)).collect())
    }
    fn run_timed(&self, args: Vec<Arg>) -> Result<(Vec<Buffer>, Vec<OpTiming>), Error> {
        Ok((self.run(args)?, Vec::new()))
    }
    fn report(&self) -> &CompileReport {
        &self.report
    }
}

#[test]
fn the_host_takes_what_has_no_kernel_and_the_report_says_so() {
    let Some(device) = narrow(4096) else { return };
    let info = DeviceInfo { id: "reference".into(), ..device.info().clone() };
    let host: Arc<dyn Device> = Arc::new(ReferenceHost { key: DeviceKey::fresh(), info });
    let g = graph(|t| {
        let _scope = t.scope("head");
        let x = t.data("x", DType::F32, [1030]);
        let mask = x.lt(&x.like(0.0));
        let sorted = (x * 2.0).sort(0, true, 1030);
        t.output("y", &(&sorted[0] + 1.0));
        t.output("at", &sorted[1]);
        t.output("mask", &mask.cast(DType::I32).sort(0, false, 1030)[0]);
    });
    let options = CompileOptions { host: Some(host), ..CompileOptions::default() };
    let executable = device.compile(&g, &options).unwrap();
    let fallbacks: Vec<_> = executable.report().fallbacks().collect();
    assert_eq!(fallbacks.len(), 2, "{fallbacks:?}");
    assert!(fallbacks.iter().all(|f| f.op == "sort" && &*f.path == "head" && f.reason.contains("4096")));
    let inputs = inputs_of(&g);
    let expected = evaluate(&g, &inputs).unwrap();
    let got = run(&device, &g, &inputs, &options);
    assert!(expected.iter().zip(&got).all(|(e, a)| e.values() == a.values()));
    let (_, events) = executable.run_timed(upload(&device, &g, &inputs)).unwrap();
    assert!(events.iter().any(|e| &*e.place == "reference (host)"));
    let strict = CompileOptions { strict: true, ..options };
    assert!(matches!(device.compile(&g, &strict), Err(Error::Unsupported { op, .. }) if op.contains("sort")));
}
