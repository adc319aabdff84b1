//! The op library of a plug-in.

use std::collections::HashMap;
use std::ffi::c_char;
use std::ptr::null;
use std::sync::{Arc, Mutex, PoisonError};

use percept_graph::{Op, OpDesc};
use percept_hal::{DeviceInfo, Error, OpLaunch, OpLibrary, Planned, Region, Result, describe};

use crate::abi::{self, Handle, Launch, Oplib, Span};
use crate::capture::State;
use crate::describe::Described;
use crate::opened::{Calls, GUARD, Memory, Opened, serial};

/// Plans that are kept though no executable holds them.
const KEPT_PLANS: usize = 4096;
/// A program shorter than this is not worth recording.
const SHORTEST_CAPTURE: usize = 4;

/// An [`OpLibrary`] whose operations a plug-in has.
pub struct PluginLibrary {
    opened: Arc<Opened>,
    table: Oplib,
    /// What the plug-in said of operations, by their text and types: it is asked once.
    plans: Mutex<HashMap<String, Result<Arc<Plan>, String>>>,
}

/// How an operation is launched.
pub enum LaunchPlan {
    /// Bytes are copied.
    Copy,
    /// By the plug-in.
    Plugin(Arc<Plan>),
}

/// A plan of the plug-in's.
pub struct Plan {
    opened: Arc<Opened>,
    table: Oplib,
    handle: Handle,
    serial: u64,
    workspace: usize,
    in_place: Vec<(usize, usize)>,
}

// SAFETY: the handle is used under the device's lock.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Drop for Plan {
    fn drop(&mut self) {
        let opened = &*self.opened;
        let mut calls = opened.lock();
        opened.settle(&mut calls);
        calls.captures.forget(self.serial, Some(&self.table), opened.device);
        // SAFETY: the plan is the device's, nothing of it runs, and it is freed here alone.
        unsafe { (self.table.plan_free)(opened.device, self.handle) };
    }
}

/// Lists that are filled for every program, kept for their memory.
#[derive(Default)]
pub struct Scratch {
    spans: Vec<Span>,
    launches: Vec<Launch>,
    pointers: Vec<*const Launch>,
    paths: Vec<u8>,
    key: Vec<u64>,
}

impl PluginLibrary {
    /// The op library of an opened device, if its plug-in has one.
    pub fn new(opened: Arc<Opened>) -> Option<Self> {
        let table = opened.plugin.oplib?;
        Some(Self { opened, table, plans: Mutex::default() })
    }

    /// The plan of an operation, or why there is none.
    fn plan(&self, desc: &OpDesc<'_>) -> Result<Arc<Plan>, String> {
        let key =
            format!("{} {:?} {:?}", ron::to_string(desc.op).unwrap_or_default(), desc.inputs, desc.outputs);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(&key) {
            return known.clone();
        }
        if plans.len() >= KEPT_PLANS {
            plans.retain(|_, plan| plan.as_ref().is_ok_and(|p| Arc::strong_count(p) > 1));
        }
        let answer = self.ask(desc);
        plans.insert(key, answer.clone());
        answer
    }

    fn ask(&self, desc: &OpDesc<'_>) -> Result<Arc<Plan>, String> {
        let opened = &self.opened;
        let described = Described::new(desc);
        let mut planned = abi::Planned { struct_size: abi::Planned::SIZE, ..abi::Planned::zeroed() };
        let mut calls = opened.lock();
        // SAFETY: the description and what it points to live until the call returns.
        let status = Opened::with_message(&mut calls, |m| unsafe {
            (self.table.query)(opened.device, described.op(), &mut planned, m)
        });
        if status == abi::UNSUPPORTED {
            return Err(Opened::reason(&calls, status));
        }
        let checked = if status == abi::OK {
            checked(&planned, desc, &opened.info)
        } else {
            Err(Opened::reason(&calls, status))
        };
        match checked {
            Ok(in_place) => Ok(Arc::new(Plan {
                opened: opened.clone(),
                table: self.table,
                handle: planned.plan,
                serial: serial(),
                workspace: planned.workspace_bytes as usize,
                in_place,
            })),
            Err(why) => {
                // Not a matter of support: whoever runs next is told.
                calls.defer(opened.failed(&describe(desc), format!("query: {why}")));
                if status == abi::OK && !planned.plan.is_null() {
                    // SAFETY: the plan is the device's, and is forgotten here.
                    unsafe { (self.table.plan_free)(opened.device, planned.plan) };
                }
                let plugin = &opened.plugin;
                Err(format!("plug-in '{}' {}: query: {why}", plugin.name, plugin.version))
            }
        }
    }

    /// Put launches of the plug-in's into the queue.
    fn batch(&self, calls: &mut Calls, steps: &[OpLaunch<'_, Self>]) -> Result<()> {
        let mut scratch = std::mem::take(&mut calls.scratch);
        let result = scratch.fill(steps).and_then(|()| self.launch_all(calls, steps, &mut scratch));
        calls.scratch = scratch;
        result
    }

    fn launch_all(
        &self,
        calls: &mut Calls,
        steps: &[OpLaunch<'_, Self>],
        scratch: &mut Scratch,
    ) -> Result<()> {
        if self.opened.guarded {
            return self.one_by_one(calls, steps, scratch);
        }
        let captures = self.table.capture_begin.is_some() && steps.len() >= SHORTEST_CAPTURE;
        if captures {
            scratch.fill_key(steps);
            match calls.captures.next(&scratch.key, &self.table, self.opened.device) {
                State::Launch => {}
                State::Record => {
                    let recorded = self.record(calls, steps, scratch)?;
                    calls.captures.recorded(recorded);
                    if let Some(capture) = recorded {
                        return self.replay(calls, capture);
                    }
                }
                State::Replay(capture) => return self.replay(calls, capture),
            }
        }
        self.put(calls, steps, scratch)
    }

    /// Launch everything, without a look at the guards unless that costs nothing.
    fn put(&self, calls: &mut Calls, steps: &[OpLaunch<'_, Self>], scratch: &Scratch) -> Result<()> {
        let Some(launch_program) = self.table.launch_program else {
            return self.one_by_one(calls, steps, scratch);
        };
        let opened = &self.opened;
        let mut failed = u64::MAX;
        let (list, count) = (scratch.pointers.as_ptr(), scratch.pointers.len() as u64);
        // SAFETY: the launches and what they point to live until the call returns.
        let put = opened.call(calls, "launch_program", "", |m| unsafe {
            launch_program(opened.queue, list, count, &mut failed, m)
        });
        let step = usize::try_from(failed).ok().and_then(|at| steps.get(at));
        put.map_err(|error| step.map_or(error.clone(), |step| during(error, step)))
    }

    fn one_by_one(&self, calls: &mut Calls, steps: &[OpLaunch<'_, Self>], scratch: &Scratch) -> Result<()> {
        let opened = &self.opened;
        for (step, launch) in steps.iter().zip(&scratch.launches) {
            let watched = watched(step);
            if watched && let Some((memory, at)) = workspace_guard(step) {
                memory.put_guard(calls, at)?;
            }
            let mut message = calls.lend();
            // SAFETY: the launch and what it points to live until the call returns.
            let status = unsafe { (self.table.launch)(opened.queue, launch, &mut message) };
            if status != abi::OK {
                return Err(opened.status(calls, status, "launch", &named(step)));
            }
            if watched {
                if opened.guarded {
                    opened.wait(calls).map_err(|error| during(error, step))?;
                }
                self.look(calls, step)?;
            }
        }
        Ok(())
    }

    /// Whether the operation kept within its memory.
    fn look(&self, calls: &mut Calls, step: &OpLaunch<'_, Self>) -> Result<()> {
        let past = |what: &str| {
            let why = format!("it wrote past the end of {what}; memory of this process may be damaged");
            Err(self.opened.failed(&named(step), why))
        };
        if let Some((memory, at)) = workspace_guard(step)
            && !memory.guard_holds(calls, Some(at))?
        {
            return past(&format!("its workspace of {} bytes", plan_of(step).map_or(0, |p| p.workspace)));
        }
        for (i, region) in step.outputs.iter().enumerate() {
            if !region.memory.guard_holds(calls, None)? {
                region.memory.put_guard_behind(calls)?;
                return past(&format!("the memory of result {i}, {}", step.op.outputs[i]));
            }
        }
        Ok(())
    }

    /// Record launches; `None` when the plug-in cannot record these.
    fn record(
        &self,
        calls: &mut Calls,
        steps: &[OpLaunch<'_, Self>],
        scratch: &Scratch,
    ) -> Result<Option<Handle>> {
        let opened = &self.opened;
        let (Some(begin), Some(end), Some(free)) =
            (self.table.capture_begin, self.table.capture_end, self.table.capture_free)
        else {
            return Ok(None);
        };
        // SAFETY: the queue is the device's.
        if opened.call(calls, "capture_begin", "", |m| unsafe { begin(opened.queue, m) }).is_err() {
            return Ok(None);
        }
        let put = self.put(calls, steps, scratch);
        // SAFETY: as above; recording is ended whatever became of the launches.
        let capture = opened.make(calls, "capture_end", "", |h, m| unsafe { end(opened.queue, h, m) });
        match (put, capture) {
            (Ok(()), Ok(capture)) => Ok(Some(capture)),
            (Err(_), Ok(capture)) => {
                // SAFETY: the capture is the device's, and is forgotten here.
                unsafe { free(opened.device, capture) };
                Ok(None)
            }
            (_, Err(_)) => Ok(None),
        }
    }

    fn replay(&self, calls: &mut Calls, capture: Handle) -> Result<()> {
        let Some(replay) = self.table.capture_replay else { return Ok(()) };
        let queue = self.opened.queue;
        // SAFETY: the capture is the device's; its plans and memory are alive, or it would have been forgotten.
        self.opened.call(calls, "capture_replay", "", |m| unsafe { replay(queue, capture, m) })
    }

    fn copy(&self, calls: &mut Calls, step: &OpLaunch<'_, Self>) -> Result<()> {
        for (from, to) in step.inputs.iter().zip(step.outputs) {
            let bytes = from.bytes.min(to.bytes);
            let (from, to) = (from.memory.span(from.offset, bytes)?, to.memory.span(to.offset, bytes)?);
            self.opened.copy(calls, &from, &to)?;
        }
        Ok(())
    }
}

/// The pairs that may share memory, when what was planned can be.
fn checked(
    planned: &abi::Planned,
    desc: &OpDesc<'_>,
    info: &DeviceInfo,
) -> Result<Vec<(usize, usize)>, String> {
    if planned.plan.is_null() {
        return Err("it says that it has the operation and gives a null plan".into());
    }
    let most = info.max_buffer_bytes.saturating_sub(GUARD as u64);
    if planned.workspace_bytes > most {
        return Err(format!(
            "it asks for a workspace of {} bytes, and a buffer of its device has at most {most}",
            planned.workspace_bytes
        ));
    }
    let count = planned.in_place_count as usize;
    let Some(pairs) = planned.in_place.get(..count) else {
        return Err(format!("it gives {count} pairs that may share memory; there is room for 8"));
    };
    let pair = |&[from, to]: &[u32; 2]| {
        let (from, to) = (from as usize, to as usize);
        let bytes = |types: &[percept_graph::TensorType], at: usize| types.get(at).map(|ty| ty.bytes());
        match (bytes(desc.inputs, from), bytes(desc.outputs, to)) {
            (Some(a), Some(b)) if a == b => Ok((from, to)),
            _ => Err(format!(
                "it says that operand {from} and result {to} may share memory: there are no such two of one size"
            )),
        }
    };
    pairs.iter().map(pair).collect()
}

impl OpLibrary for PluginLibrary {
    type Memory = Memory;
    type LaunchPlan = LaunchPlan;

    fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        Memory::new(&self.opened, bytes, "a block of memory")
    }

    fn write(&self, dst: Region<'_, Memory>, bytes: &[u8]) -> Result<()> {
        let span = dst.memory.span(dst.offset, bytes.len())?;
        self.opened.write(&mut self.opened.lock(), &span, bytes)
    }

    fn read(&self, src: Region<'_, Memory>, out: &mut [u8]) -> Result<()> {
        let span = src.memory.span(src.offset, out.len())?;
        self.opened.read(&mut self.opened.lock(), &span, out)
    }

    fn query(&self, op: &OpDesc<'_>) -> Result<Planned<LaunchPlan>, String> {
        if let Op::Reshape { .. } | Op::Bitcast { .. } | Op::Barrier = op.op {
            return Ok(Planned { plan: LaunchPlan::Copy, workspace: 0 });
        }
        let plan = self.plan(op)?;
        let workspace = match plan.workspace {
            0 => 0,
            // Room for a guard behind it.
            bytes => bytes.next_multiple_of(GUARD) + GUARD,
        };
        Ok(Planned { plan: LaunchPlan::Plugin(plan), workspace })
    }

    fn in_place(&self, op: &OpDesc<'_>) -> Vec<(usize, usize)> {
        match op.op {
            Op::Reshape { .. } | Op::Bitcast { .. } | Op::Barrier | Op::Constant(_) => Vec::new(),
            _ => self.plan(op).map_or(Vec::new(), |plan| plan.in_place.clone()),
        }
    }

    fn launch(&self, step: &OpLaunch<'_, Self>) -> Result<()> {
        self.launch_program(std::slice::from_ref(step))
    }

    fn launch_program(&self, steps: &[OpLaunch<'_, Self>]) -> Result<()> {
        let mut calls = self.opened.lock();
        calls.surface()?;
        let mut rest = steps;
        while let Some(step) = rest.first() {
            let ours = rest.iter().take_while(|s| plan_of(s).is_some()).count();
            match ours {
                0 => self.copy(&mut calls, step)?,
                _ => self.batch(&mut calls, &rest[..ours])?,
            }
            rest = &rest[ours.max(1)..];
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.opened.wait(&mut self.opened.lock())
    }
}

fn plan_of<'a>(step: &OpLaunch<'a, PluginLibrary>) -> Option<&'a Arc<Plan>> {
    match step.plan {
        LaunchPlan::Plugin(plan) => Some(plan),
        LaunchPlan::Copy => None,
    }
}

/// The operation of a step, with its place in the model.
fn named(step: &OpLaunch<'_, PluginLibrary>) -> String {
    let op = describe(&step.op);
    if step.path.is_empty() { op } else { format!("{op} in {}", step.path) }
}

/// The same error, as one of this step.
fn during(error: Error, step: &OpLaunch<'_, PluginLibrary>) -> Error {
    match error {
        Error::Failed { device, op, why } if op.is_empty() => Error::Failed { device, op: named(step), why },
        error => error,
    }
}

/// Whether the guards of a step can be looked at right after its launch.
fn watched(step: &OpLaunch<'_, PluginLibrary>) -> bool {
    let memory = step.outputs.first().map(|r| r.memory).or(step.workspace.map(|w| w.memory));
    memory.is_some_and(Memory::is_watched)
}

/// The memory of a workspace and where its guard is.
fn workspace_guard<'a>(step: &OpLaunch<'a, PluginLibrary>) -> Option<(&'a Memory, usize)> {
    let workspace = step.workspace?;
    let plan = plan_of(step)?;
    Some((workspace.memory, workspace.offset + plan.workspace))
}

impl Scratch {
    /// The launches of steps. Lists have their length before anything points into them.
    fn fill(&mut self, steps: &[OpLaunch<'_, PluginLibrary>]) -> Result<()> {
        let Self { spans, launches, pointers, paths, .. } = self;
        spans.clear();
        launches.clear();
        pointers.clear();
        paths.clear();
        for step in steps {
            for region in step.inputs.iter().chain(step.outputs) {
                spans.push(region.memory.span(region.offset, region.bytes)?);
            }
            paths.extend(step.path.bytes().filter(|&b| b != 0));
            paths.push(0);
        }
        let (mut span, mut path) = (spans.as_ptr(), paths.as_ptr());
        for step in steps {
            let Some(plan) = plan_of(step) else { continue };
            let workspace = match step.workspace {
                Some(region) => region.memory.span(region.offset, plan.workspace)?,
                None => Span::zeroed(),
            };
            let (inputs, outputs) = (step.inputs.len(), step.outputs.len());
            // The lists were filled with as much above, in the same order.
            let behind = span.wrapping_add(inputs);
            launches.push(Launch {
                struct_size: Launch::SIZE,
                plan: plan.handle,
                inputs: if inputs == 0 { null() } else { span },
                input_count: inputs as u64,
                outputs: behind,
                output_count: outputs as u64,
                workspace,
                path: path.cast::<c_char>(),
            });
            span = behind.wrapping_add(outputs);
            path = path.wrapping_add(step.path.bytes().filter(|&b| b != 0).count() + 1);
        }
        pointers.extend(launches.iter().map(|launch| launch as *const Launch));
        Ok(())
    }

    /// What a program is known by: its plans and memory.
    fn fill_key(&mut self, steps: &[OpLaunch<'_, PluginLibrary>]) {
        self.key.clear();
        for step in steps {
            self.key.extend(plan_of(step).map(|plan| plan.serial));
            for region in step.inputs.iter().chain(step.outputs).chain(&step.workspace) {
                self.key.extend([region.memory.serial(), region.offset as u64]);
            }
        }
    }
}
