//! The trait of libraries of operations: the backend says which operations it has and launches them; the
//! framework owns order, memory, decomposition, fallback and the report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percept_graph::{Graph, OpDesc, TensorType};

use crate::buffer::{Arg, Buffer, DeviceKey};
use crate::device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support};
use crate::error::{Error, Result};
use crate::pool::{Block, Pool};

mod program;

use program::LibraryExecutable;

/// A library of operations on a device's memory. See docs/add-a-backend.md for one in a single file.
pub trait OpLibrary: Send + Sync + 'static {
    /// A block of device memory.
    type Memory: Send + Sync + 'static;
    /// What the library prepares once per operation and shape: descriptors, workspace sizes, algorithms.
    type LaunchPlan: Send + Sync + 'static;

    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Take memory, aligned to at least 64 bytes; its contents do not matter.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copy bytes from the host to device memory.
    fn write(&self, dst: Region<'_, Self::Memory>, bytes: &[u8]) -> Result<()>;

    /// Copy bytes to the host, after everything launched before.
    fn read(&self, src: Region<'_, Self::Memory>, out: &mut [u8]) -> Result<()>;

    /// Prepare an operation, or say why the library does not have it for these types. Reshape, bitcast and barrier are
    /// requested where bytes must move: they copy.
    fn query(&self, op: &OpDesc<'_>) -> Result<Planned<Self::LaunchPlan>, String>;

    /// Pairs (operand, result) of an operation that may share memory, because each element is read before it is
    /// written; the first that fits is used.
    fn in_place(&self, _op: &OpDesc<'_>) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Run one prepared operation.
    fn launch(&self, step: &OpLaunch<'_, Self>) -> Result<()>;

    /// Run a whole program in order. A library that can do better than one launch after the other does it here.
    fn launch_program(&self, steps: &[OpLaunch<'_, Self>]) -> Result<()> {
        steps.iter().try_for_each(|s| self.launch(s))
    }

    /// As [`OpLibrary::launch_program`], with one time for each step. A library that can time its steps without
    /// stopping between them does it here.
    fn launch_program_timed(&self, steps: &[OpLaunch<'_, Self>]) -> Result<Vec<LaunchTime>> {
        let one = |step: &OpLaunch<'_, Self>| {
            let start = Instant::now();
            self.launch_program(std::slice::from_ref(step))?;
            self.synchronize()?;
            Ok(LaunchTime { start, duration: start.elapsed(), waiting: Duration::ZERO })
        };
        steps.iter().map(one).collect()
    }

    /// Wait for everything launched.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

/// An operation the library has prepared.
pub struct Planned<P> {
    /// Handed back at each launch.
    pub plan: P,
    /// Scratch bytes a launch needs.
    pub workspace: usize,
}

/// When a launch ran, as the first thread of the library saw it.
#[derive(Debug, Clone, Copy)]
pub struct LaunchTime {
    /// When it began.
    pub start: Instant,
    /// How long the thread worked on it.
    pub duration: Duration,
    /// How long the thread then waited for others.
    pub waiting: Duration,
}

/// Bytes within a block of memory.
pub struct Region<'a, M> {
    /// The block of memory.
    pub memory: &'a M,
    /// The first byte of the region.
    pub offset: usize,
    /// Number of bytes.
    pub bytes: usize,
}

impl<M> Clone for Region<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Region<'_, M> {}

/// One launch of an operation that the library has prepared.
pub struct OpLaunch<'a, L: OpLibrary + ?Sized> {
    /// What [`OpLibrary::query`] prepared.
    pub plan: &'a L::LaunchPlan,
    /// The operation and its types.
    pub op: OpDesc<'a>,
    /// The module path of the operation.
    pub path: &'a str,
    /// Operands. They do not overlap the results, except in pairs that [`OpLibrary::in_place`] named.
    pub inputs: &'a [Region<'a, L::Memory>],
    /// Memory of the results.
    pub outputs: &'a [Region<'a, L::Memory>],
    /// Scratch, of the planned size.
    pub workspace: Option<Region<'a, L::Memory>>,
}

/// Free blocks a device keeps for reuse, in bytes.
const KEPT: u64 = 1 << 30;

/// A [`Device`] made of an [`OpLibrary`].
pub struct LibraryDevice<L: OpLibrary>(Arc<Shared<L>>);

/// What a device and its executables share.
struct Shared<L: OpLibrary> {
    library: L,
    key: DeviceKey,
    pool: Arc<Pool<L::Memory>>,
    /// Scratch of the run in progress, kept at the size of the largest; its lock is the device's one stream.
    arena: Mutex<Option<Block<L::Memory>>>,
}

impl<L: OpLibrary> LibraryDevice<L> {
    /// A device that runs this library.
    pub fn new(library: L) -> Self {
        Self(Arc::new(Shared {
            library,
            key: DeviceKey::fresh(),
            pool: Pool::new(KEPT),
            arena: Mutex::new(None),
        }))
    }

    /// The library that the device is made of.
    pub fn library(&self) -> &L {
        &self.0.library
    }
}

impl<L: OpLibrary> Shared<L> {
    fn id(&self) -> &str {
        &self.library.info().id
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<Block<L::Memory>> {
        let limit = self.library.info().max_buffer_bytes;
        if bytes as u64 > limit {
            return Err(Error::OutOfMemory {
                device: self.id().to_string(),
                what: what.to_string(),
                bytes: bytes as u64,
                why: format!("a buffer holds at most {limit}"),
            });
        }
        // Whole cache lines, so that a vector load at the end of a tensor stays inside its block.
        self.pool.take(bytes.next_multiple_of(64).max(64), |n| self.library.alloc(n))
    }

    fn new_buffer(
        &self,
        ty: &TensorType,
        fill: impl FnOnce(Region<'_, L::Memory>) -> Result<()>,
    ) -> Result<Buffer> {
        let block = self.alloc(ty.bytes(), &ty.to_string())?;
        fill(whole(&block, ty.bytes(), self.id())?)?;
        Ok(Buffer::new(self.key, ty.clone(), block))
    }

    /// The region of a buffer of this device.
    fn region<'a>(&self, buffer: &'a Buffer) -> Result<Region<'a, L::Memory>> {
        buffer.check_device(self.key, self.id())?;
        match buffer.storage::<Block<L::Memory>>() {
            Some(block) => whole(block, buffer.ty().bytes(), self.id()),
            None => Err(vanished(self.id())),
        }
    }
}

/// The start of a block as a region.
fn whole<'a, M>(block: &'a Block<M>, bytes: usize, device: &str) -> Result<Region<'a, M>> {
    let memory = block.memory().ok_or_else(|| vanished(device))?;
    Ok(Region { memory, offset: 0, bytes })
}

fn vanished(device: &str) -> Error {
    Error::Failed { device: device.to_string(), op: String::new(), why: "a buffer's memory is gone".into() }
}

impl<L: OpLibrary> Device for LibraryDevice<L> {
    fn info(&self) -> &DeviceInfo {
        self.0.library.info()
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        support(&self.0.library, op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        if bytes.len() != ty.bytes() {
            return Err(Error::ByteCount { ty: ty.clone(), given: bytes.len() });
        }
        self.0.new_buffer(ty, |region| self.0.library.write(region, bytes))
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        self.0.new_buffer(ty, |region| {
            let chunk = vec![0u8; region.bytes.min(1 << 20)];
            (0..region.bytes).step_by(chunk.len().max(1)).try_for_each(|at| {
                let n = chunk.len().min(region.bytes - at);
                self.0.library.write(Region { offset: at, bytes: n, ..region }, &chunk[..n])
            })
        })
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        let region = self.0.region(src)?;
        let _stream = self.0.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = vec![0; region.bytes];
        self.0.library.read(region, &mut out)?;
        Ok(Pending::ready(out))
    }

    /// Without a copy of the whole buffer in between.
    fn read_parts(&self, src: &Buffer, parts: &mut [(usize, &mut [u8])]) -> Result<()> {
        let region = self.0.region(src)?;
        let _stream = self.0.arena.lock().unwrap_or_else(PoisonError::into_inner);
        for (offset, part) in parts {
            let end = offset.saturating_add(part.len());
            if end > region.bytes {
                return Err(Error::ByteCount { ty: src.ty().clone(), given: end });
            }
            self.0.library.read(Region { offset: *offset, bytes: part.len(), ..region }, part)?;
        }
        Ok(())
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        Ok(Box::new(LibraryExecutable::compile(self.0.clone(), graph, options)?))
    }

    fn synchronize(&self) -> Result<()> {
        let _stream = self.0.arena.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.library.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        let arena = self.0.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = arena.as_ref().map_or(0, |a| a.bytes() as u64);
        let all = self.0.pool.usage();
        MemoryUse { buffers: all.buffers - scratch, scratch: all.scratch + scratch }
    }
}

/// Native when the library has it, decomposed when it may have the parts.
fn support<L: OpLibrary>(library: &L, op: &OpDesc<'_>) -> Support {
    use percept_graph::Op;
    match library.query(op) {
        Ok(_) => Support::Native,
        Err(_) if matches!(op.op, Op::Composite(_) | Op::Fused(_)) => Support::Decompose,
        Err(why) => Support::No(why),
    }
}

/// Arguments of a run checked against the graph's inputs: count, types, device, donation.
pub(crate) fn check_args(graph: &Graph, args: &[Arg], key: DeviceKey, device: &str) -> Result<()> {
    if args.len() != graph.inputs().len() {
        return Err(Error::ArgumentCount {
            graph: graph.name().to_string(),
            expected: graph.inputs().len(),
            given: args.len(),
        });
    }
    for (i, (input, arg)) in graph.inputs().iter().zip(args).enumerate() {
        let buffer = arg.buffer();
        let expected = graph.ty(input.value);
        if buffer.ty() != expected {
            return Err(Error::ArgumentType {
                name: input.name.clone(),
                expected: expected.clone(),
                given: buffer.ty().to_string(),
            });
        }
        buffer.check_device(key, device)?;
        let replaced = graph.outputs().iter().find(|o| o.alias == Some(i));
        match (arg, replaced) {
            (Arg::Borrow(_), Some(o)) => {
                return Err(Error::NotDonated { name: input.name.clone(), output: o.name.clone() });
            }
            (Arg::Donate(b), _) if !b.is_unique() => {
                return Err(Error::DonatedButHeld { name: input.name.clone() });
            }
            _ => {}
        }
    }
    Ok(())
}
