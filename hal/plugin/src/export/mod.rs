//! Plug-ins in Rust: a type that implements one of three traits becomes the plug-in of its library.
//!
//! [`export_plugin`](crate::export_plugin) takes an [`OpLibrary`](percept_hal::OpLibrary),
//! [`export_graphs`](crate::export_graphs) a [`GraphCompiler`] and [`export_kernels`](crate::export_kernels) a
//! [`KernelCompiler`].

mod graphs;
mod kernels;
mod oplib;

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use percept_graph::{DType, Op, TensorType};
use percept_hal::{DeviceInfo, Error, Region};

use crate::abi::{self, Entry, Handle, Info, Message, OptionPair, RawDevices, Span, Status};
use crate::message::text_at;

#[doc(hidden)]
pub use percept_hal as hal;

pub use graphs::{GraphCompiler, entry as graphs_entry};
pub use kernels::{KernelCompiler, Launch, Limits, Module, entry as kernels_entry};
pub use oplib::entry as oplib_entry;

/// Export an op library as the plug-in of this library, which is built as a `cdylib`.
///
/// `open` makes the library from the options of the device's id, of which those listed are known.
///
/// ```ignore
/// percept_plugin::export_plugin! {
///     library: Library,
///     name: "chip",
///     options: ["index"],
///     open: Library::open,
/// }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (library: $library:ty, name: $name:literal, options: [$($option:literal),* $(,)?], open: $open:expr $(,)?) => {
        $crate::export_as!($library, $name, [$($option),*], $open, $crate::export::hal::OpLibrary, oplib_entry);
    };
}

/// Export a [`GraphCompiler`](crate::export::GraphCompiler), as [`export_plugin`] does an op library.
#[macro_export]
macro_rules! export_graphs {
    (compiler: $compiler:ty, name: $name:literal, options: [$($option:literal),* $(,)?], open: $open:expr $(,)?) => {
        $crate::export_as!(
            $compiler, $name, [$($option),*], $open, $crate::export::GraphCompiler, graphs_entry
        );
    };
}

/// Export a [`KernelCompiler`](crate::export::KernelCompiler), as [`export_plugin`] does an op library.
#[macro_export]
macro_rules! export_kernels {
    (compiler: $compiler:ty, name: $name:literal, options: [$($option:literal),* $(,)?], open: $open:expr $(,)?) => {
        $crate::export_as!(
            $compiler, $name, [$($option),*], $open, $crate::export::KernelCompiler, kernels_entry
        );
    };
}

/// What the macros above have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! export_as {
    ($ty:ty, $name:literal, [$($option:literal),*], $open:expr, $kind:path, $entry:ident) => {
        impl $crate::export::Export for $ty {
            type Block = <$ty as $kind>::Memory;

            const NAME: &'static ::core::ffi::CStr = $crate::export::c_str(concat!($name, "\0"));
            const VERSION: &'static ::core::ffi::CStr =
                $crate::export::c_str(concat!(env!("CARGO_PKG_VERSION"), "\0"));
            const OPTIONS: &'static [*const ::core::ffi::c_char] =
                &[$(concat!($option, "\0").as_ptr().cast(),)* ::core::ptr::null()];

            fn open_with(
                options: &[(String, String)],
            ) -> ::core::result::Result<Self, $crate::export::OpenError> {
                ($open)(options)
            }

            fn about(&self) -> &$crate::export::hal::DeviceInfo {
                <$ty as $kind>::info(self)
            }

            fn new_block(&self, bytes: usize) -> $crate::export::hal::Result<Self::Block> {
                <$ty as $kind>::alloc(self, bytes)
            }

            fn write_block(
                &self,
                to: $crate::export::hal::Region<'_, Self::Block>,
                bytes: &[u8],
            ) -> $crate::export::hal::Result<()> {
                <$ty as $kind>::write(self, to, bytes)
            }

            fn read_block(
                &self,
                from: $crate::export::hal::Region<'_, Self::Block>,
                out: &mut [u8],
            ) -> $crate::export::hal::Result<()> {
                <$ty as $kind>::read(self, from, out)
            }

            fn wait(&self) -> $crate::export::hal::Result<()> {
                <$ty as $kind>::synchronize(self)
            }
        }

        /// The entry of the plug-in.
        #[unsafe(no_mangle)]
        pub extern "C" fn percept_plugin_entry(
            _host: *const $crate::abi::Host,
            _message: *mut $crate::abi::Message,
        ) -> *const $crate::abi::Entry {
            $crate::export::$entry::<$ty>()
        }
    };
}

/// What opening a device may give.
pub type OpenError = Error;

/// A device with what its plug-in is called. The macros implement it.
pub trait Export: Send + Sync + 'static {
    /// A block of the device's memory.
    type Block: Send + Sync + 'static;
    /// The plug-in's name.
    const NAME: &'static CStr;
    /// Its version.
    const VERSION: &'static CStr;
    /// The options that `open_with` knows, ending with null.
    const OPTIONS: &'static [*const c_char];

    /// Open the device.
    ///
    /// # Errors
    /// When a value of an option is wrong, or the device cannot be opened.
    fn open_with(options: &[(String, String)]) -> Result<Self, OpenError>
    where
        Self: Sized;

    /// What the device is.
    fn about(&self) -> &DeviceInfo;

    /// Memory of a size in bytes.
    ///
    /// # Errors
    /// When there is no such memory left.
    fn new_block(&self, bytes: usize) -> percept_hal::Result<Self::Block>;

    /// Copy bytes to a region.
    ///
    /// # Errors
    /// When the device fails.
    fn write_block(&self, to: Region<'_, Self::Block>, bytes: &[u8]) -> percept_hal::Result<()>;

    /// Copy a region to the host.
    ///
    /// # Errors
    /// When the device fails.
    fn read_block(&self, from: Region<'_, Self::Block>, out: &mut [u8]) -> percept_hal::Result<()>;

    /// Wait for everything that was put in.
    ///
    /// # Errors
    /// What failed since the last call.
    fn wait(&self) -> percept_hal::Result<()>;
}

/// Text that ends with a zero byte, and has no other.
///
/// # Panics
/// At compile time, when it does not.
pub const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a name has no zero byte"),
    }
}

/// The functions of a device.
const fn devices<L: Export>() -> RawDevices {
    RawDevices {
        struct_size: RawDevices::SIZE,
        device_open: Some(device_open::<L>),
        device_close: Some(device_close::<L>),
        device_info: Some(device_info::<L>),
        memory_new: Some(memory_new::<L>),
        memory_free: Some(memory_free::<L>),
        queue_new: Some(queue_new),
        queue_free: Some(queue_free),
        queue_write: Some(queue_write::<L>),
        queue_read: Some(queue_read::<L>),
        queue_wait: Some(queue_wait::<L>),
        ..RawDevices::zeroed()
    }
}

/// What a plug-in with such a device gives its host, less its other table.
const fn bare_entry<L: Export>(devices: &'static RawDevices) -> Entry {
    Entry {
        struct_size: Entry::SIZE,
        abi_version: abi::ABI_VERSION,
        oldest_abi_version: 1,
        name: L::NAME.as_ptr(),
        version: L::VERSION.as_ptr(),
        options: L::OPTIONS.as_ptr(),
        devices,
        ..Entry::zeroed()
    }
}

/// A status other than OK, with its message.
struct Refusal(Status, String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::OutOfMemory { .. } => abi::OUT_OF_MEMORY,
            Error::Lost { .. } => abi::LOST,
            Error::Open { .. } => abi::INVALID,
            _ => abi::FAILED,
        };
        Self(status, error.to_string())
    }
}

/// Run a body that may panic; what it says goes into the message.
///
/// # Safety
/// The message is null or as the header says.
unsafe fn answer(message: *mut Message, body: impl FnOnce() -> Result<(), Refusal>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(body));
    let Refusal(status, text) = match result {
        Ok(Ok(())) => return abi::OK,
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal(abi::FAILED, "the plug-in panicked".into()),
    };
    // SAFETY: as the caller says.
    if let Some(message) = unsafe { message.as_ref() }
        && message.capacity > 0
    {
        let room = (message.capacity - 1) as usize;
        let bytes = &text.as_bytes()[..text.len().min(room)];
        // SAFETY: there is room for this many bytes and a zero byte.
        unsafe {
            message.text.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            message.text.add(bytes.len()).write(0);
        }
    }
    status
}

/// What an array of C holds.
///
/// # Safety
/// The array has this many items, which live as long as they are used.
unsafe fn items<'a, T>(at: *const T, count: u64) -> &'a [T] {
    // SAFETY: as the caller says.
    if count == 0 || at.is_null() { &[] } else { unsafe { slice::from_raw_parts(at, count as usize) } }
}

// SAFETY, for all functions below: the header says what the host passes. Handles were made here and are not freed yet,
// and calls for one device do not overlap.

unsafe extern "C" fn device_open<L: Export>(
    options: *const OptionPair,
    count: u64,
    device: *mut Handle,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let text = |at| text_at(at).unwrap_or_default();
            let options: Vec<(String, String)> =
                items(options, count).iter().map(|o| (text(o.key), text(o.value))).collect();
            let library = L::open_with(&options)?;
            *device = Box::into_raw(Box::new(library)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn device_close<L: Export>(device: Handle) {
    // SAFETY: see above. A library whose drop panics is left where it is.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop(Box::from_raw(device.cast::<L>())) }));
}

fn put(to: &mut [c_char], text: &str) {
    let room = to.len() - 1;
    for (to, byte) in to.iter_mut().zip(text.bytes().take(room)) {
        *to = byte as c_char;
    }
}

unsafe extern "C" fn device_info<L: Export>(
    device: Handle,
    info: *mut Info,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let (ours, info) = ((*device.cast::<L>()).about(), &mut *info);
            put(&mut info.name, &ours.name);
            put(&mut info.vendor, &ours.vendor);
            put(&mut info.driver, &ours.driver);
            put(&mut info.features, &ours.features.join(" "));
            info.dtypes = ours.dtypes.iter().fold(0, |bits, &d| bits | 1 << abi::dtype_number(d));
            info.max_buffer_bytes = ours.max_buffer_bytes;
            info.memory_bytes = ours.memory_bytes.unwrap_or(0);
            info.flags = if ours.software { abi::DEVICE_SOFTWARE } else { 0 };
            info.flags |= match ours.computes_in {
                DType::F16 => abi::DEVICE_COMPUTES_F16,
                DType::BF16 => abi::DEVICE_COMPUTES_BF16,
                _ => 0,
            };
            Ok(())
        })
    }
}

unsafe extern "C" fn memory_new<L: Export>(
    device: Handle,
    bytes: u64,
    memory: *mut Handle,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let bytes = usize::try_from(bytes).map_err(|e| Refusal(abi::OUT_OF_MEMORY, e.to_string()))?;
            let made = (*device.cast::<L>()).new_block(bytes)?;
            *memory = Box::into_raw(Box::new(made)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn memory_free<L: Export>(_device: Handle, memory: Handle) {
    // SAFETY: see above.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop(Box::from_raw(memory.cast::<L::Block>())) }));
}

/// A device is one stream, so the queue is the device.
unsafe extern "C" fn queue_new(device: Handle, queue: *mut Handle, _message: *mut Message) -> Status {
    // SAFETY: see above.
    unsafe { *queue = device };
    abi::OK
}

unsafe extern "C" fn queue_free(_device: Handle, _queue: Handle) {}

/// A span as a region.
///
/// # Safety
/// The span's memory was made here and is not freed yet.
unsafe fn region<'a, L: Export>(span: &Span) -> Region<'a, L::Block> {
    // SAFETY: as the caller says.
    let memory = unsafe { &*span.memory.cast::<L::Block>() };
    Region { memory, offset: span.offset as usize, bytes: span.bytes as usize }
}

unsafe extern "C" fn queue_write<L: Export>(
    queue: Handle,
    to: *const Span,
    bytes: *const c_void,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let bytes = items(bytes.cast::<u8>(), (*to).bytes);
            Ok((*queue.cast::<L>()).write_block(region::<L>(&*to), bytes)?)
        })
    }
}

unsafe extern "C" fn queue_read<L: Export>(
    queue: Handle,
    from: *const Span,
    bytes: *mut c_void,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let out = slice::from_raw_parts_mut(bytes.cast::<u8>(), (*from).bytes as usize);
            Ok((*queue.cast::<L>()).read_block(region::<L>(&*from), out)?)
        })
    }
}

unsafe extern "C" fn queue_wait<L: Export>(queue: Handle, message: *mut Message) -> Status {
    // SAFETY: see above.
    unsafe { answer(message, || Ok((*queue.cast::<L>()).wait()?)) }
}

/// The types of tensors.
///
/// # Safety
/// The list is as the header says.
unsafe fn types(list: *const abi::Tensor, count: u64) -> Result<Vec<TensorType>, Refusal> {
    // SAFETY: as the caller says.
    unsafe { items(list, count) }
        .iter()
        .map(|t| {
            let unknown = || Refusal(abi::UNSUPPORTED, format!("dtype {} is not known", t.dtype));
            let dtype = abi::dtype_of(t.dtype).ok_or_else(unknown)?;
            // SAFETY: a tensor has as many extents as its rank says.
            let dims = unsafe { items(t.dims, u64::from(t.rank)) };
            Ok(TensorType::new(dtype, dims.iter().map(|&d| d as usize).collect::<Vec<_>>()))
        })
        .collect()
}

/// An operation with its types.
///
/// # Safety
/// It is as the header says.
unsafe fn operation(raw: &abi::Op) -> Result<(Op, Vec<TensorType>, Vec<TensorType>), Refusal> {
    // SAFETY: as the caller says.
    unsafe {
        let text = if raw.text.is_null() { c"" } else { CStr::from_ptr(raw.text) }.to_string_lossy();
        let unknown = |e: ron::error::SpannedError| Refusal(abi::UNSUPPORTED, format!("'{text}': {e}"));
        let op: Op = ron::from_str(&text).map_err(unknown)?;
        Ok((op, types(raw.inputs, raw.input_count)?, types(raw.outputs, raw.output_count)?))
    }
}
