//! A device that is right but for one planted fault.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use percept_graph::reference::{ExactTensor, evaluate_exact};
use percept_graph::{Binary, Composite, DType, Graph, HostTensor, Op, OpDesc, ReduceKind, TensorType};
use percept_hal::{
    Arg, Buffer, CompileOptions, CompileReport, Device, DeviceInfo, DeviceKey, Error, Executable, MemoryUse,
    OpTiming, Pending, Result, Support,
};

/// What is wrong with a [`FaultyDevice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// In rows of prime length the last element is its neighbour.
    OffByOneInPrimes,
    /// Element 1024 of longer tensors is zero.
    WrongPastTile,
    /// bf16 results are cut off rather than rounded.
    TruncatedBf16,
    /// A run writes over the outputs of the run before.
    BufferReusedEarly,
    /// The last 64 bytes of long uploads do not arrive.
    LostWrite,
    /// Maxima of NaN are 0.
    NanSwallowedInMax,
    /// Donating a buffer someone holds copies it silently.
    HeldDonationCopied,
    /// One graph never ends.
    Hang,
    /// One graph ends the process.
    Abort,
    /// Failed runs give zeros.
    ErrorSwallowed,
    /// The key gradient of attention is 1 % too large.
    WrongGradient,
    /// Every other run differs in one bit.
    Nondeterminism,
    /// A row's last bit depends on how many rows there are.
    BatchDependence,
    /// Outputs are never freed.
    Leak,
    /// A queued read sees what was written after it.
    StaleRead,
    /// Threads share one result register.
    SharedRegister,
    /// The report leaves operations out.
    IncompleteReport,
    /// Memory is not cleared.
    DirtyZeros,
}

impl Fault {
    /// Every fault that does not end or block the process.
    pub const CONTAINED: [Fault; 16] = [
        Fault::OffByOneInPrimes,
        Fault::WrongPastTile,
        Fault::TruncatedBf16,
        Fault::BufferReusedEarly,
        Fault::LostWrite,
        Fault::NanSwallowedInMax,
        Fault::HeldDonationCopied,
        Fault::ErrorSwallowed,
        Fault::WrongGradient,
        Fault::Nondeterminism,
        Fault::BatchDependence,
        Fault::Leak,
        Fault::StaleRead,
        Fault::SharedRegister,
        Fault::IncompleteReport,
        Fault::DirtyZeros,
    ];

    /// The fault with this name.
    pub fn named(name: &str) -> Option<Fault> {
        let all = Fault::CONTAINED.into_iter().chain([Fault::None, Fault::Hang, Fault::Abort]);
        all.into_iter().find(|f| format!("{f:?}") == name)
    }
}

/// The case whose graph hangs or aborts.
pub const DEADLY: &str = "L1/tanh/f32/prime/normal";

/// The device's memory of a buffer: the inner device's buffer, which faults may replace.
type Slot = Arc<Mutex<Buffer>>;

struct Shared {
    inner: Arc<dyn Device>,
    key: DeviceKey,
    fault: Fault,
    leaked: Mutex<Vec<Buffer>>,
    register: Mutex<Vec<Buffer>>,
    runs: AtomicUsize,
}

/// A device with one fault.
pub struct FaultyDevice(Arc<Shared>);

impl FaultyDevice {
    pub fn new(inner: Arc<dyn Device>, fault: Fault) -> Self {
        Self(Arc::new(Shared {
            inner,
            key: DeviceKey::fresh(),
            fault,
            leaked: Mutex::default(),
            register: Mutex::default(),
            runs: AtomicUsize::new(0),
        }))
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn wrap(&self, inner: Buffer) -> (Buffer, Slot) {
        let ty = inner.ty().clone();
        let slot: Slot = Arc::new(Mutex::new(inner));
        (Buffer::new(self.key, ty, slot.clone()), slot)
    }

    fn slot(&self, b: &Buffer) -> Result<Slot> {
        b.check_device(self.key, "faulty")?;
        Ok(b.storage::<Slot>().expect("only this device has its key").clone())
    }

    fn copy(&self, b: &Buffer) -> Result<Buffer> {
        self.inner.upload(b.ty(), &self.inner.read(b)?)
    }

    fn zeros_for(&self, graph: &Graph) -> Result<Vec<Buffer>> {
        graph.outputs().iter().map(|o| self.inner.zeros(graph.ty(o.value)).map(|b| self.wrap(b).0)).collect()
    }
}

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        self.0.inner.info()
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        self.0.inner.supports(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        let mut bytes = bytes.to_vec();
        if self.0.has(Fault::LostWrite) && bytes.len() > 4096 && bytes.len() == ty.bytes() {
            let n = bytes.len();
            bytes[n - 64..].fill(0);
        }
        Ok(self.0.wrap(self.0.inner.upload(ty, &bytes)?).0)
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        let clean = self.0.inner.zeros(ty)?;
        if self.0.has(Fault::DirtyZeros) && ty.bytes() > 0 {
            return self.upload(ty, &vec![1; ty.bytes()]);
        }
        Ok(self.0.wrap(clean).0)
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        let slot = self.0.slot(src)?;
        if self.0.has(Fault::StaleRead) {
            let inner = self.0.inner.clone();
            return Ok(Pending::new(move || {
                let b = lock(&slot).clone();
                inner.read(&b)
            }));
        }
        let b = lock(&slot).clone();
        self.0.inner.read_async(&b)
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        let inner = match self.0.inner.compile(graph, options) {
            Ok(exe) => Some(exe),
            Err(_) if self.0.has(Fault::ErrorSwallowed) => None,
            Err(e) => return Err(e),
        };
        let mut report = inner.as_ref().map(|e| e.report().clone()).unwrap_or_default();
        if self.0.has(Fault::IncompleteReport) {
            report.placed.truncate(1);
        }
        Ok(Box::new(FaultyExecutable {
            shared: self.0.clone(),
            inner,
            graph: graph.clone(),
            report,
            last: Mutex::default(),
        }))
    }

    fn synchronize(&self) -> Result<()> {
        self.0.inner.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        self.0.inner.memory()
    }
}

struct FaultyExecutable {
    shared: Arc<Shared>,
    inner: Option<Box<dyn Executable>>,
    graph: Graph,
    report: CompileReport,
    last: Mutex<Vec<Weak<Mutex<Buffer>>>>,
}

impl Executable for FaultyExecutable {
    fn run(&self, args: Vec<Arg>) -> Result<Vec<Buffer>> {
        match self.attempt(args) {
            Err(_) if self.shared.has(Fault::ErrorSwallowed) => self.shared.zeros_for(&self.graph),
            result => result,
        }
    }

    fn run_timed(&self, args: Vec<Arg>) -> Result<(Vec<Buffer>, Vec<OpTiming>)> {
        Ok((self.run(args)?, Vec::new()))
    }

    fn report(&self) -> &CompileReport {
        &self.report
    }
}

impl FaultyExecutable {
    fn attempt(&self, args: Vec<Arg>) -> Result<Vec<Buffer>> {
        let s = &self.shared;
        if self.graph.name() == DEADLY {
            match s.fault {
                Fault::Hang => loop {
                    std::thread::sleep(Duration::from_secs(1));
                },
                Fault::Abort => std::process::abort(),
                _ => {}
            }
        }
        let exact = s.has(Fault::TruncatedBf16).then(|| self.exact(&args)).flatten();
        let mut slots = Vec::new();
        let mut inner_args = Vec::new();
        for (i, arg) in args.into_iter().enumerate() {
            let slot = s.slot(arg.buffer())?;
            slots.push(slot.clone());
            inner_args.push(match arg {
                Arg::Borrow(_) => Arg::Borrow(lock(&slot).clone()),
                Arg::Donate(b) if !b.is_unique() && s.has(Fault::HeldDonationCopied) => {
                    Arg::Donate(s.copy(&lock(&slot))?)
                }
                Arg::Donate(b) if !b.is_unique() => {
                    let name = self.graph.inputs().get(i).map(|i| i.name.clone()).unwrap_or_default();
                    return Err(Error::DonatedButHeld { name });
                }
                Arg::Donate(b) => {
                    // The slot keeps a scalar while the inner buffer is given up.
                    let nothing = s.inner.zeros(&TensorType::new(DType::U8, [0]))?;
                    drop(b);
                    Arg::Donate(std::mem::replace(&mut *lock(&slot), nothing))
                }
            });
        }
        let Some(exe) = &self.inner else { return s.zeros_for(&self.graph) };
        let mut outputs = exe.run(inner_args)?;
        if s.has(Fault::SharedRegister) {
            *lock(&s.register) = outputs;
            std::thread::sleep(Duration::from_millis(2));
            outputs = std::mem::take(&mut *lock(&s.register));
        }
        let run = s.runs.fetch_add(1, Ordering::Relaxed);
        for (i, b) in outputs.iter_mut().enumerate() {
            let clean = s.inner.read(b)?;
            let mut bytes = clean.clone();
            self.spoil(i, b.ty(), run, &mut bytes, exact.as_ref().map(|e| &e[i]));
            if bytes != clean {
                *b = s.inner.upload(b.ty(), &bytes)?;
            }
        }
        if s.has(Fault::Leak) {
            for b in &outputs {
                lock(&s.leaked).push(s.copy(b)?);
            }
        }
        if s.has(Fault::BufferReusedEarly) {
            for (old, new) in lock(&self.last).iter().zip(&outputs) {
                if let Some(slot) = old.upgrade() {
                    *lock(&slot) = new.clone();
                }
            }
        }
        let wrapped = outputs.into_iter().zip(self.graph.outputs()).map(|(inner, o)| {
            let donated = o.alias.and_then(|i| slots.get(i)).filter(|_| s.has(Fault::StaleRead));
            match donated {
                // What was donated is written in place, whoever still means to read it.
                Some(slot) => {
                    let ty = inner.ty().clone();
                    *lock(slot) = inner;
                    (Buffer::new(s.key, ty, slot.clone()), slot.clone())
                }
                None => s.wrap(inner),
            }
        });
        let wrapped: Vec<(Buffer, Slot)> = wrapped.collect();
        *lock(&self.last) = wrapped.iter().map(|(_, slot)| Arc::downgrade(slot)).collect();
        Ok(wrapped.into_iter().map(|(b, _)| b).collect())
    }

    /// Outputs before rounding.
    fn exact(&self, args: &[Arg]) -> Option<Vec<ExactTensor>> {
        let s = &self.shared;
        let inputs = args.iter().map(|a| {
            let slot = s.slot(a.buffer()).ok()?;
            let inner = lock(&slot).clone();
            let t = HostTensor::new(inner.ty().clone(), s.inner.read(&inner).ok()?).ok()?;
            Some(ExactTensor::from(&t))
        });
        evaluate_exact(&self.graph, &inputs.collect::<Option<Vec<_>>>()?, 1 << 24).ok()
    }

    fn contains(&self, f: impl Fn(&Op) -> bool) -> bool {
        self.graph.nodes().iter().any(|n| f(&n.op))
    }

    /// Plant the fault in the bytes of an output.
    fn spoil(
        &self,
        output: usize,
        ty: &TensorType,
        run: usize,
        bytes: &mut [u8],
        exact: Option<&ExactTensor>,
    ) {
        let size = ty.dtype.block_bytes();
        let n = bytes.len() / size;
        let last = ty.dims.last().copied().unwrap_or(1);
        match self.shared.fault {
            Fault::OffByOneInPrimes if [7, 13, 131].contains(&last) && n > 1 => {
                bytes.copy_within((n - 2) * size..(n - 1) * size, (n - 1) * size);
            }
            Fault::WrongPastTile if n > 1024 => bytes[1024 * size..1025 * size].fill(0),
            Fault::TruncatedBf16 if ty.dtype == DType::BF16 => {
                for (b, v) in bytes.chunks_exact_mut(2).zip(exact.map_or(&[] as &[f64], |e| &e.values)) {
                    // The nearest f32 may lie across a bf16 boundary; these are not meant.
                    b.copy_from_slice(&(*v as f32).to_le_bytes()[2..]);
                }
            }
            Fault::NanSwallowedInMax
                if ty.dtype == DType::F32
                    && self.contains(|op| {
                        matches!(op, Op::Binary(Binary::Max) | Op::Reduce { kind: ReduceKind::Max, .. })
                    }) =>
            {
                for b in bytes.chunks_exact_mut(4) {
                    if f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_nan() {
                        b.fill(0);
                    }
                }
            }
            Fault::WrongGradient
                if output == 1
                    && ty.dtype == DType::F32
                    && self.contains(|op| matches!(op, Op::Composite(Composite::AttentionGrad(_)))) =>
            {
                for b in bytes.chunks_exact_mut(4) {
                    let v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * 1.01;
                    b.copy_from_slice(&v.to_le_bytes());
                }
            }
            Fault::Nondeterminism if run % 2 == 1 && ty.dtype == DType::F32 && n > 0 => bytes[0] ^= 1,
            Fault::BatchDependence if ty.rank() == 2 && ty.dims[0] >= 8 && n > 0 => bytes[0] ^= 1,
            _ => {}
        }
    }
}
