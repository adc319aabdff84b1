//! An op library as a table of C functions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use percept_graph::{Op, OpDesc, TensorType};
use percept_hal::{OpLaunch, OpLibrary, Region};

use super::{Export, Refusal, answer, bare_entry, devices, items, operation, region};
use crate::abi::{self, Entry, Handle, Message, RawDevices, RawOplib, Status};
use crate::message::text_at;

/// An op library that is exported.
pub trait Library: OpLibrary + Export<Block = <Self as OpLibrary>::Memory> {}

impl<L: OpLibrary + Export<Block = <L as OpLibrary>::Memory>> Library for L {}

/// What a plug-in of this library gives its host.
pub fn entry<L: Library>() -> *const Entry {
    &Tables::<L>::ENTRY
}

struct Tables<L>(std::marker::PhantomData<L>);

impl<L: Library> Tables<L> {
    const DEVICES: RawDevices = devices::<L>();
    const OPLIB: RawOplib = RawOplib {
        struct_size: RawOplib::SIZE,
        query: Some(query::<L>),
        plan_free: Some(plan_free::<L>),
        launch: Some(launch::<L>),
        launch_program: Some(launch_program::<L>),
        ..RawOplib::zeroed()
    };
    const ENTRY: Entry = Entry { oplib: &Self::OPLIB, ..bare_entry::<L>(&Self::DEVICES) };
}

/// A plan with the operation that it is of.
struct ExportedPlan<L: OpLibrary> {
    plan: L::LaunchPlan,
    op: Op,
    inputs: Vec<TensorType>,
    outputs: Vec<TensorType>,
}

impl<L: OpLibrary> ExportedPlan<L> {
    fn desc(&self) -> OpDesc<'_> {
        OpDesc { op: &self.op, inputs: &self.inputs, outputs: &self.outputs }
    }
}

// SAFETY, for all functions below: as in the module above.

unsafe extern "C" fn query<L: Library>(
    device: Handle,
    op: *const abi::Op,
    planned: *mut abi::Planned,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let (library, raw) = (&*device.cast::<L>(), &*op);
            let (op, inputs, outputs) = operation(raw)?;
            let desc = OpDesc { op: &op, inputs: &inputs, outputs: &outputs };
            let ours = library.query(&desc).map_err(|why| Refusal(abi::UNSUPPORTED, why))?;
            let planned = &mut *planned;
            planned.workspace_bytes = ours.workspace as u64;
            for (to, (operand, result)) in planned.in_place.iter_mut().zip(library.in_place(&desc)) {
                *to = [operand as u32, result as u32];
                planned.in_place_count += 1;
            }
            let plan: ExportedPlan<L> = ExportedPlan { plan: ours.plan, op, inputs, outputs };
            planned.plan = Box::into_raw(Box::new(plan)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn plan_free<L: Library>(_device: Handle, plan: Handle) {
    // SAFETY: see above.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop(Box::from_raw(plan.cast::<ExportedPlan<L>>())) }));
}

/// Call `f` with a launch.
///
/// # Safety
/// The launch is as the header says.
unsafe fn with_launch<L: Library, R>(raw: &abi::Launch, f: impl FnOnce(&OpLaunch<'_, L>) -> R) -> R {
    // SAFETY: as the caller says.
    unsafe {
        let plan = &*raw.plan.cast::<ExportedPlan<L>>();
        let regions = |list, count| -> Vec<Region<'_, <L as OpLibrary>::Memory>> {
            items(list, count).iter().map(|span| region::<L>(span)).collect()
        };
        let inputs = regions(raw.inputs, raw.input_count);
        let outputs = regions(raw.outputs, raw.output_count);
        let workspace = (!raw.workspace.memory.is_null()).then(|| region::<L>(&raw.workspace));
        let path = text_at(raw.path).unwrap_or_default();
        f(&OpLaunch {
            plan: &plan.plan,
            op: plan.desc(),
            path: &path,
            inputs: &inputs,
            outputs: &outputs,
            workspace,
        })
    }
}

unsafe extern "C" fn launch<L: Library>(
    queue: Handle,
    launch: *const abi::Launch,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe { answer(message, || Ok(with_launch::<L, _>(&*launch, |l| (*queue.cast::<L>()).launch(l))?)) }
}

unsafe extern "C" fn launch_program<L: Library>(
    queue: Handle,
    launches: *const *const abi::Launch,
    count: u64,
    failed: *mut u64,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            for (i, raw) in (0..).zip(items(launches, count)) {
                with_launch::<L, _>(&**raw, |l| (*queue.cast::<L>()).launch(l))
                    .inspect_err(|_| *failed = i)?;
            }
            Ok(())
        })
    }
}
