//! The CPU as a device: kernels behind the `OpLibrary` trait, a whole program as one broadcast over the
//! threads.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use percept_graph::{Composite, DType, Op, OpDesc};
use percept_hal::{
    Backend, Device, DeviceInfo, Error, LaunchTime, LibraryDevice, OpLaunch, OpLibrary, Planned, Region,
    Result, describe,
};

use crate::kernel::{Kernel, Operands, RawTensor};
use crate::lanes::{Isa, isa};
use crate::memory::{Blocks, Memory};
use crate::plan::plan;
use crate::pool::{Pool, Team, lock};

/// The id of the one CPU device.
const ID: &str = "cpu";
/// Operations estimated below this many nanoseconds run on one thread: waking a second costs as much.
const SMALL: usize = 6_000;
/// Tensors touched since the threads last met, past which they meet: to compare with more of them costs more.
const MANY: usize = 64;

/// The CPU's operations.
pub struct CpuLibrary {
    info: DeviceInfo,
    pool: Pool,
    blocks: Blocks,
}

/// An operation planned for its shapes.
pub struct LaunchPlan(Kernel);

/// The CPU device.
pub type CpuDevice = LibraryDevice<CpuLibrary>;

/// Opens the CPU on `threads` threads, or as many as the machine offers when `threads` is 0.
///
/// # Errors
/// When the operating system refuses the threads.
pub fn open(threads: usize) -> Result<CpuDevice> {
    let pool = Pool::new(threads).map_err(|e| Error::Open { id: ID.into(), why: e.to_string() })?;
    Ok(LibraryDevice::new(CpuLibrary { info: info(), pool, blocks: Blocks::default() }))
}

/// The CPU in a registry of devices: the id `cpu`, with a thread per core.
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn prefix(&self) -> &'static str {
        ID
    }

    fn list(&self) -> Vec<DeviceInfo> {
        vec![info()]
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        if id != ID {
            return Err(Error::UnknownDevice { id: id.into(), known: ID.into() });
        }
        Ok(Arc::new(open(0)?))
    }
}

/// Bytes of memory the machine has, where the system says so in the way Linux does.
fn physical_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn info() -> DeviceInfo {
    let set = match isa() {
        Isa::Portable(_) => "portable",
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => "neon",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => "avx2",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => "avx512",
    };
    let memory = physical_memory();
    DeviceInfo {
        id: ID.into(),
        name: format!("{} CPU", std::env::consts::ARCH),
        vendor: "host".into(),
        driver: format!("percept-cpu {}", env!("CARGO_PKG_VERSION")),
        software: true,
        dtypes: DType::ALL.to_vec(),
        features: vec![set.into()],
        max_buffer_bytes: memory.unwrap_or(isize::MAX as u64),
        memory_bytes: memory,
        computes_in: DType::F32,
    }
}

impl CpuLibrary {
    /// Threads that run a program.
    pub fn threads(&self) -> usize {
        self.pool.size()
    }

    fn failed(&self, why: String, steps: &[OpLaunch<'_, Self>]) -> Error {
        let op = match steps {
            [step] => describe(&step.op),
            _ => format!("a program of {} operations", steps.len()),
        };
        Error::Failed { device: ID.into(), op, why }
    }

    fn raw(&self, region: &Region<'_, Memory>) -> Result<RawTensor> {
        let start = region.memory.at(region.offset, region.bytes).ok_or_else(|| Error::Failed {
            device: ID.into(),
            op: String::new(),
            why: format!("{} bytes at {} lie outside their block", region.bytes, region.offset),
        })?;
        Ok(RawTensor { start, bytes: region.bytes })
    }
}

/// A step's kernel and where its tensors lie among all of the program's.
struct Launch<'a> {
    kernel: &'a Kernel,
    inputs: &'a [RawTensor],
    outputs: &'a [RawTensor],
    workspace: RawTensor,
}

impl Launch<'_> {
    fn run(&self, team: &Team<'_>) {
        // SAFETY: the framework keeps the blocks for the run, plans memory so that live tensors do not overlap, and
        // runs one program at a time; blocks are initialized when they are made.
        let operands = unsafe { Operands::new(self.inputs, self.outputs, self.workspace) };
        (self.kernel.body)(team, &operands);
    }

    fn small(&self) -> bool {
        let in_place = match (self.inputs, self.outputs) {
            ([operand, ..], [result, ..]) => std::ptr::eq(operand.start, result.start),
            _ => false,
        };
        (if in_place { self.kernel.work_in_place } else { self.kernel.work }) < SMALL
    }
}

/// One launch of all threads, or a run of small ones that are the first thread's.
struct Group<'a> {
    launches: &'a [Launch<'a>],
    /// All threads have to be done with what was launched since they last met.
    waits: bool,
}

/// The launches in groups. Threads meet only before a group that touches memory which a launch since then writes, or
/// writes what one reads: the projections of one row, for example, run into each other.
fn groups<'a>(launches: &'a [Launch<'a>]) -> Vec<Group<'a>> {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    let group = |launches: &'a [Launch<'a>]| {
        let reads = launches.iter().flat_map(|launch| launch.inputs);
        let writes = launches.iter().flat_map(|launch| launch.outputs.iter().chain([&launch.workspace]));
        let meets =
            |tensor: &RawTensor, others: &[RawTensor]| others.iter().any(|other| tensor.overlaps(other));
        let waits = read.len() + written.len() > MANY
            || reads.clone().any(|tensor| meets(tensor, &written))
            || writes.clone().any(|tensor| meets(tensor, &written) || meets(tensor, &read));
        if waits {
            read.clear();
            written.clear();
        }
        read.extend(reads);
        written.extend(writes);
        Group { launches, waits }
    };
    launches.chunk_by(|a, b| a.small() && b.small()).map(group).collect()
}

/// The first thread's clock in a timed program.
struct Clock<'a> {
    times: MutexGuard<'a, Vec<LaunchTime>>,
    last: Instant,
}

impl<'a> Clock<'a> {
    fn new(times: MutexGuard<'a, Vec<LaunchTime>>) -> Self {
        Self { times, last: Instant::now() }
    }

    /// A step is done. What it waited for others at barriers of its own is no work.
    fn worked(&mut self, team: &Team<'_>) {
        let (start, waiting) = (self.last, team.take_waited());
        self.last = Instant::now();
        let duration = (self.last - start).saturating_sub(waiting);
        self.times.push(LaunchTime { start, duration, waiting });
    }

    /// The other threads are done with it too.
    fn waited(&mut self, team: &Team<'_>) {
        team.take_waited();
        let now = Instant::now();
        if let Some(time) = self.times.last_mut() {
            time.waiting += now - self.last;
        }
        self.last = now;
    }
}

impl OpLibrary for CpuLibrary {
    type Memory = Memory;
    type LaunchPlan = LaunchPlan;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        self.blocks.take(bytes).ok_or_else(|| Error::OutOfMemory {
            device: ID.into(),
            what: "a buffer".into(),
            bytes: bytes as u64,
            why: "the system has no more memory".into(),
        })
    }

    fn write(&self, dst: Region<'_, Memory>, bytes: &[u8]) -> Result<()> {
        let to = self.raw(&dst)?;
        let count = bytes.len().min(to.bytes);
        // SAFETY: the region is inside its block, which belongs to the device's one stream.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.start, count) };
        Ok(())
    }

    fn read(&self, src: Region<'_, Memory>, out: &mut [u8]) -> Result<()> {
        let from = self.raw(&src)?;
        let count = out.len().min(from.bytes);
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(from.start, out.as_mut_ptr(), count) };
        Ok(())
    }

    fn query(&self, op: &OpDesc<'_>) -> std::result::Result<Planned<LaunchPlan>, String> {
        let kernel = plan(op, self.pool.size())
            .ok_or_else(|| format!("the cpu has no kernel for {}", describe(op)))?;
        Ok(Planned { workspace: kernel.workspace, plan: LaunchPlan(kernel) })
    }

    fn in_place(&self, op: &OpDesc<'_>) -> Vec<(usize, usize)> {
        match op.op {
            Op::DynamicUpdateSlice | Op::Scatter { .. } | Op::Composite(Composite::KvAppend { .. }) => {
                vec![(0, 0)]
            }
            // The pool of states.
            Op::Composite(Composite::GatedDelta { state: true, .. }) => vec![(5, 1)],
            Op::Composite(Composite::ShortConv { state: true, .. }) => vec![(2, 1)],
            Op::Composite(Composite::AdamW { .. }) => vec![(0, 0), (2, 1), (3, 2)],
            _ => Vec::new(),
        }
    }

    fn launch(&self, step: &OpLaunch<'_, Self>) -> Result<()> {
        self.launch_program(std::slice::from_ref(step))
    }

    /// One broadcast: every thread walks the program and meets the others where a step needs what another wrote.
    /// Runs of small steps are one thread's, without barriers between them.
    fn launch_program(&self, steps: &[OpLaunch<'_, Self>]) -> Result<()> {
        self.run_program(steps, None)
    }

    /// The same broadcast, in which the first thread looks at the clock between the steps.
    fn launch_program_timed(&self, steps: &[OpLaunch<'_, Self>]) -> Result<Vec<LaunchTime>> {
        let times = Mutex::new(Vec::with_capacity(steps.len()));
        self.run_program(steps, Some(&times))?;
        let times = std::mem::take(&mut *lock(&times));
        Ok(times)
    }
}

impl CpuLibrary {
    /// Runs the steps; `times` gets one for each, in order.
    fn run_program(
        &self,
        steps: &[OpLaunch<'_, Self>],
        times: Option<&Mutex<Vec<LaunchTime>>>,
    ) -> Result<()> {
        let regions = steps.iter().flat_map(|s| s.inputs.iter().chain(s.outputs).chain(&s.workspace));
        let tensors = regions.map(|r| self.raw(r)).collect::<Result<Vec<_>>>()?;
        let mut rest = &tensors[..];
        let launches: Vec<Launch<'_>> = steps
            .iter()
            .map(|s| {
                let (inputs, tail) = rest.split_at(s.inputs.len());
                let (outputs, tail) = tail.split_at(s.outputs.len());
                let (workspace, tail) = tail.split_at(usize::from(s.workspace.is_some()));
                rest = tail;
                let none =
                    RawTensor { start: std::ptr::NonNull::<u64>::dangling().as_ptr().cast(), bytes: 0 };
                Launch {
                    kernel: &s.plan.0,
                    inputs,
                    outputs,
                    workspace: workspace.first().copied().unwrap_or(none),
                }
            })
            .collect();
        let groups = groups(&launches);
        let program = |team: &Team<'_>| {
            // Only the first thread has the clock, so that it never waits for the lock.
            let mut clock = times.filter(|_| team.rank() == 0).map(|times| Clock::new(lock(times)));
            let meet = |clock: &mut Option<Clock<'_>>| {
                team.barrier();
                clock.iter_mut().for_each(|clock| clock.waited(team));
            };
            for Group { launches, waits } in &groups {
                if *waits {
                    meet(&mut clock);
                }
                if !launches[0].small() {
                    launches[0].run(team);
                    clock.iter_mut().for_each(|clock| clock.worked(team));
                } else if team.rank() == 0 {
                    Team::alone(|alone| {
                        for launch in *launches {
                            launch.run(alone);
                            clock.iter_mut().for_each(|clock| clock.worked(team));
                        }
                    });
                }
            }
            meet(&mut clock);
        };
        let done = match times {
            _ if launches.iter().all(Launch::small) => self.pool.run_alone(program),
            None => self.pool.run(program),
            Some(_) => self.pool.run_timed(program),
        };
        done.map_err(|e| self.failed(e.to_string(), steps))
    }
}
