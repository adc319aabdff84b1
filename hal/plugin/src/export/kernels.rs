//! A compiler of kernels as a table of C functions.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use percept_hal::{DeviceInfo, Region, Result};

use super::{Export, Refusal, answer, bare_entry, devices, items, region};
use crate::abi::{self, Entry, Handle, Message, RawDevices, RawKernels, Status};
use crate::message::text_at;

/// What kernels may use, as the header says it; zeros are the least that WebGPU promises.
pub type Limits = abi::Limits;

/// A compute module: storage buffers are group 0, binding 0 and on, and parameters a uniform block of 32-bit words at
/// group 1, binding 0.
#[derive(Debug)]
pub struct Module<'a> {
    /// Modules with one key are the same program.
    pub key: &'a str,
    /// The source in the language of the limits: text, or the words of SPIR-V.
    pub source: &'a [u8],
    /// The entry point.
    pub entry: &'a str,
    /// Invocations of a workgroup in each dimension.
    pub workgroup_size: [u32; 3],
    /// Storage buffers.
    pub bindings: u32,
    /// Words of parameters, at most 64.
    pub parameters: u32,
}

/// A kernel that is to be started, after those before it.
pub struct Launch<'a, C: KernelCompiler> {
    /// The kernel.
    pub kernel: &'a C::Kernel,
    /// The storage buffers in order.
    pub bindings: Vec<Region<'a, C::Memory>>,
    /// The words of the parameters.
    pub parameters: &'a [u32],
    /// Workgroups of each dimension.
    pub groups: [u32; 3],
    /// The operation's place in the model, for messages.
    pub path: String,
}

/// A chip's compiler of kernels, with its memory and its one stream of work.
pub trait KernelCompiler: Send + Sync + Sized + 'static {
    /// A block of the device's memory.
    type Memory: Send + Sync + 'static;
    /// A compiled module.
    type Kernel: Send + Sync + 'static;

    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// What kernels may use, and the language that they are handed over in.
    fn limits(&self, limits: &mut Limits);

    /// Memory of a size in bytes.
    ///
    /// # Errors
    /// When there is no such memory left.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copy bytes to a region, which is as long as they are.
    ///
    /// # Errors
    /// When the device fails.
    fn write(&self, to: Region<'_, Self::Memory>, bytes: &[u8]) -> Result<()>;

    /// Copy a region to the host, after all that was put in before.
    ///
    /// # Errors
    /// When the device fails.
    fn read(&self, from: Region<'_, Self::Memory>, out: &mut [u8]) -> Result<()>;

    /// Compile a module.
    ///
    /// # Errors
    /// Why the compiler does not take it: its operation is then taken apart or runs on the host.
    fn compile(&self, module: &Module<'_>) -> std::result::Result<Self::Kernel, String>;

    /// Start a kernel, which sees what those before it wrote.
    ///
    /// # Errors
    /// When the device fails.
    fn launch(&self, launch: &Launch<'_, Self>) -> Result<()>;

    /// Wait for everything that was put in.
    ///
    /// # Errors
    /// What failed since the last call.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

/// A compiler that is exported.
pub trait Compiler: KernelCompiler + Export<Block = <Self as KernelCompiler>::Memory> {}

impl<C: KernelCompiler + Export<Block = <C as KernelCompiler>::Memory>> Compiler for C {}

/// What a plug-in of this compiler gives its host.
pub fn entry<C: Compiler>() -> *const Entry {
    &Tables::<C>::ENTRY
}

struct Tables<C>(PhantomData<C>);

impl<C: Compiler> Tables<C> {
    const DEVICES: RawDevices = devices::<C>();
    const KERNELS: RawKernels = RawKernels {
        struct_size: RawKernels::SIZE,
        limits: Some(limits::<C>),
        kernel_new: Some(kernel_new::<C>),
        kernel_free: Some(kernel_free::<C>),
        dispatch: Some(dispatch::<C>),
    };
    const ENTRY: Entry = Entry { kernels: &Self::KERNELS, ..bare_entry::<C>(&Self::DEVICES) };
}

// SAFETY, for all functions below: as in the module above.

unsafe extern "C" fn limits<C: Compiler>(
    device: Handle,
    limits: *mut Limits,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            (*device.cast::<C>()).limits(&mut *limits);
            Ok(())
        })
    }
}

unsafe extern "C" fn kernel_new<C: Compiler>(
    device: Handle,
    module: *const abi::Module,
    kernel: *mut Handle,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let raw = &*module;
            let [key, entry] = [raw.key, raw.entry].map(|at| CStr::from_ptr(at).to_string_lossy());
            let module = Module {
                key: &key,
                source: items(raw.source.cast::<u8>(), raw.source_bytes),
                entry: &entry,
                workgroup_size: raw.workgroup_size,
                bindings: raw.binding_count,
                parameters: raw.parameter_words,
            };
            let made =
                (*device.cast::<C>()).compile(&module).map_err(|why| Refusal(abi::UNSUPPORTED, why))?;
            *kernel = Box::into_raw(Box::new(made)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn kernel_free<C: Compiler>(_device: Handle, kernel: Handle) {
    // SAFETY: see above.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop(Box::from_raw(kernel.cast::<C::Kernel>())) }));
}

unsafe extern "C" fn dispatch<C: Compiler>(
    queue: Handle,
    dispatches: *const *const abi::Dispatch,
    count: u64,
    failed: *mut u64,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            for (i, raw) in (0..).zip(items(dispatches, count)) {
                let raw = &**raw;
                let launch = Launch {
                    kernel: &*raw.kernel.cast::<C::Kernel>(),
                    bindings: items(raw.bindings, raw.binding_count).iter().map(|s| region::<C>(s)).collect(),
                    parameters: items(raw.parameters, raw.parameter_words),
                    groups: raw.groups,
                    path: text_at(raw.path).unwrap_or_default(),
                };
                (*queue.cast::<C>()).launch(&launch).inspect_err(|_| *failed = i)?;
            }
            Ok(())
        })
    }
}
