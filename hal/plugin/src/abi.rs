//! The structs and tables of `percept_plugin.h`, as Rust sees them. A test holds their layout to the header's.

use std::ffi::{c_char, c_void};

use percept_graph::DType;

/// The version of the interface that this host was built with.
pub const ABI_VERSION: u32 = 2;
/// The oldest version of plug-ins that this host takes.
pub const OLDEST_ABI_VERSION: u32 = 1;

/// A handle that only the plug-in looks behind.
pub type Handle = *mut c_void;
/// What a call returns.
pub type Status = i32;

/// Statuses.
pub const OK: Status = 0;
/// The library or the chip failed.
pub const FAILED: Status = 1;
/// Not for this operation, these types or this source.
pub const UNSUPPORTED: Status = 2;
/// The device has no such memory left.
pub const OUT_OF_MEMORY: Status = 3;
/// The request is wrong.
pub const INVALID: Status = 4;
/// The device is gone.
pub const LOST: Status = 5;

/// `flags` of a device: it is a processor rather than hardware of its own.
pub const DEVICE_SOFTWARE: u64 = 1;
/// `flags` of a device: what a call started is finished when the call returns.
pub const DEVICE_SYNCHRONOUS: u64 = 2;
/// `flags` of a device: what graphs have in f32 is computed in f16.
pub const DEVICE_COMPUTES_F16: u64 = 8;
/// `flags` of a device: what graphs have in f32 is computed in bf16.
pub const DEVICE_COMPUTES_BF16: u64 = 16;

/// Kinds of attributes.
pub const INTS: u32 = 1;
/// See [`INTS`].
pub const FLOATS: u32 = 2;
/// See [`INTS`].
pub const TEXT: u32 = 3;
/// See [`INTS`].
pub const BYTES: u32 = 4;

/// Languages of kernels.
pub const WGSL: u32 = 1;
/// See [`WGSL`].
pub const SPIRV: u32 = 2;
/// See [`WGSL`].
pub const MSL: u32 = 3;
/// See [`WGSL`].
pub const HLSL: u32 = 4;
/// See [`WGSL`].
pub const GLSL: u32 = 5;
/// See [`WGSL`].
pub const OPENCL_C: u32 = 6;

/// Formats of graphs.
pub const TEXT_FORM: u32 = 1;
/// See [`TEXT_FORM`].
pub const STABLEHLO: u32 = 2;
/// See [`TEXT_FORM`].
pub const ONNX: u32 = 3;

/// The number of a dtype.
pub const fn dtype_number(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 1,
        DType::F16 => 2,
        DType::BF16 => 3,
        DType::I32 => 4,
        DType::U32 => 5,
        DType::U8 => 6,
        DType::Bool => 7,
        DType::Q8_0 => 8,
        DType::Q4_0 => 9,
        DType::Q4_1 => 10,
        DType::Q4K => 11,
        DType::Q6K => 12,
        DType::Q8X => 13,
    }
}

/// The dtype with a number.
pub fn dtype_of(number: u32) -> Option<DType> {
    DType::ALL.into_iter().find(|&d| dtype_number(d) == number)
}

/// A struct that C sees: plain data, for which zeros are a value.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        #[allow(missing_docs, reason = "the header documents them")]
        pub struct $name { $(pub $field: $ty),* }

        impl $name {
            /// Zeros in every field.
            pub const fn zeroed() -> Self {
                // SAFETY: every field is an integer, a float, an array of them, a pointer or an optional function, for
                // all of which zeros are a value.
                unsafe { std::mem::zeroed() }
            }

            /// The bytes of the struct, as `struct_size` says them.
            pub const SIZE: u64 = size_of::<Self>() as u64;

            /// Names and offsets of the fields.
            #[cfg(test)]
            pub const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    )*};
}

plain! {
    /// `percept_message`.
    Message { struct_size: u64, text: *mut c_char, capacity: u64 }
    /// `percept_tensor`.
    Tensor {
        dtype: u32, rank: u32, dims: *const i64, strides: *const i64, bytes: u64, flags: u32, reserved: [u32; 3],
    }
    /// `percept_attribute`.
    Attribute {
        name: *const c_char, kind: u32, reserved: u32, count: u64, ints: *const i64, floats: *const f64,
        text: *const c_char, bytes: *const u8,
    }
    /// `percept_op`.
    Op {
        struct_size: u64, name: *const c_char, attributes: *const Attribute, attribute_count: u64,
        inputs: *const Tensor, input_count: u64, outputs: *const Tensor, output_count: u64, text: *const c_char,
        region: *const Region,
    }
    /// `percept_node`.
    Node { op: *const Op, inputs: *const u32 }
    /// `percept_region`.
    Region {
        struct_size: u64, input_count: u64, nodes: *const Node, node_count: u64, outputs: *const u32,
        output_count: u64,
    }
    /// `percept_option`.
    OptionPair { key: *const c_char, value: *const c_char }
    /// `percept_device_info`.
    Info {
        struct_size: u64, name: [c_char; 128], vendor: [c_char; 128], driver: [c_char; 128], features: [c_char; 512],
        dtypes: u64, max_buffer_bytes: u64, memory_bytes: u64, flags: u64,
    }
    /// `percept_span`.
    Span { memory: Handle, offset: u64, bytes: u64 }
    /// `percept_planned`.
    Planned {
        struct_size: u64, plan: Handle, workspace_bytes: u64, in_place_count: u32, in_place: [[u32; 2]; 8],
    }
    /// `percept_launch`.
    Launch {
        struct_size: u64, plan: Handle, inputs: *const Span, input_count: u64, outputs: *const Span,
        output_count: u64, workspace: Span, path: *const c_char,
    }
    /// `percept_kernel_limits`.
    Limits {
        struct_size: u64, language: u32, f16: u32, subgroup_size: u32, max_workgroup_storage: u32,
        max_invocations: u32, max_groups: u32, max_bindings: u32, alignment: u32, max_window: u64,
    }
    /// `percept_module`.
    Module {
        struct_size: u64, key: *const c_char, source: *const c_void, source_bytes: u64, entry: *const c_char,
        language: u32, workgroup_size: [u32; 3], binding_count: u32, parameter_words: u32,
    }
    /// `percept_dispatch`.
    Dispatch {
        struct_size: u64, kernel: Handle, bindings: *const Span, binding_count: u64, parameters: *const u32,
        parameter_words: u64, groups: [u32; 3], reserved: u32, path: *const c_char,
    }
    /// `percept_graph`.
    GraphSource {
        struct_size: u64, source: *const c_void, source_bytes: u64, format: u32, reserved: u32,
        inputs: *const Tensor, input_count: u64, outputs: *const Tensor, output_count: u64, replaces: *const i32,
    }
    /// `percept_host`.
    Host {
        struct_size: u64, abi_version: u32, oldest_abi_version: u32, version: *const c_char,
        log: Option<unsafe extern "C" fn(u32, *const c_char)>,
    }
    /// `percept_plugin`.
    Entry {
        struct_size: u64, abi_version: u32, oldest_abi_version: u32, name: *const c_char, version: *const c_char,
        options: *const *const c_char, devices: *const RawDevices, oplib: *const RawOplib,
        kernels: *const RawKernels, graphs: *const RawGraphs, collectives: *const c_void,
    }
}

/// The entry that a plug-in exports.
pub type EntryFunction = unsafe extern "C" fn(*const Host, *mut Message) -> *const Entry;

/// The type of a slot once it was checked.
macro_rules! slot {
    (required $ty:ty) => { $ty };
    (optional $ty:ty) => { Option<$ty> };
}

/// A slot as it was given, or why the table cannot be used.
macro_rules! take {
    (required $table:literal, $raw:ident, $field:ident) => {
        $raw.$field.ok_or(concat!("its ", $table, " lacks the function ", stringify!($field)))?
    };
    (optional $table:literal, $raw:ident, $field:ident) => {
        $raw.$field
    };
}

/// A table of functions, as C gives it and as the host uses it.
macro_rules! table {
    ($($table:literal $raw:ident $name:ident {
        $([$data:ident: $data_ty:ty])* $($need:ident $field:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*
    })*) => {$(
        plain! {
            #[doc = concat!("`", $table, "` as it is given.")]
            $raw {
                struct_size: u64,
                $($data: $data_ty,)*
                $($field: Option<unsafe extern "C" fn($($arg),*) $(-> $ret)?>),*
            }
        }

        #[doc = concat!("`", $table, "` with everything that must be there.")]
        #[derive(Debug, Clone, Copy)]
        #[allow(missing_docs, reason = "the header documents them")]
        pub struct $name {
            $(pub $data: $data_ty,)*
            $(pub $field: slot!($need unsafe extern "C" fn($($arg),*) $(-> $ret)?)),*
        }

        impl $name {
            /// The table, or what it lacks.
            pub fn checked(raw: &$raw) -> Result<Self, &'static str> {
                Ok(Self { $($data: raw.$data,)* $($field: take!($need $table, raw, $field)),* })
            }
        }
    )*};
}

table! {
    "percept_devices" RawDevices Devices {
        required device_open: fn(*const OptionPair, u64, *mut Handle, *mut Message) -> Status;
        required device_close: fn(Handle);
        required device_info: fn(Handle, *mut Info, *mut Message) -> Status;
        required memory_new: fn(Handle, u64, *mut Handle, *mut Message) -> Status;
        required memory_free: fn(Handle, Handle);
        required queue_new: fn(Handle, *mut Handle, *mut Message) -> Status;
        required queue_free: fn(Handle, Handle);
        required queue_write: fn(Handle, *const Span, *const c_void, *mut Message) -> Status;
        required queue_read: fn(Handle, *const Span, *mut c_void, *mut Message) -> Status;
        required queue_wait: fn(Handle, *mut Message) -> Status;
        optional queue_copy: fn(Handle, *const Span, *const Span, *mut Message) -> Status;
        optional memory_address: fn(Handle, Handle) -> *mut c_void;
        optional event_new: fn(Handle, *mut Handle, *mut Message) -> Status;
        optional event_free: fn(Handle, Handle);
        optional event_record: fn(Handle, Handle, *mut Message) -> Status;
        optional event_wait: fn(Handle, *mut Message) -> Status;
        optional queue_wait_event: fn(Handle, Handle, *mut Message) -> Status;
        optional event_elapsed: fn(Handle, Handle, *mut f64, *mut Message) -> Status;
    }
    "percept_oplib" RawOplib Oplib {
        required query: fn(Handle, *const Op, *mut Planned, *mut Message) -> Status;
        required plan_free: fn(Handle, Handle);
        required launch: fn(Handle, *const Launch, *mut Message) -> Status;
        optional launch_program: fn(Handle, *const *const Launch, u64, *mut u64, *mut Message) -> Status;
        optional capture_begin: fn(Handle, *mut Message) -> Status;
        optional capture_end: fn(Handle, *mut Handle, *mut Message) -> Status;
        optional capture_replay: fn(Handle, Handle, *mut Message) -> Status;
        optional capture_free: fn(Handle, Handle);
        optional pack: fn(Handle, *const Tensor, *const c_void, *mut c_void, *mut u64, *mut Message) -> Status;
    }
    "percept_kernels" RawKernels Kernels {
        required limits: fn(Handle, *mut Limits, *mut Message) -> Status;
        required kernel_new: fn(Handle, *const Module, *mut Handle, *mut Message) -> Status;
        required kernel_free: fn(Handle, Handle);
        required dispatch: fn(Handle, *const *const Dispatch, u64, *mut u64, *mut Message) -> Status;
    }
    "percept_graphs" RawGraphs Graphs {
        [format: u32]
        [reserved: u32]
        required supports: fn(Handle, *const Op, *mut Message) -> Status;
        required compile: fn(Handle, *const GraphSource, *mut Handle, *mut Message) -> Status;
        required executable_free: fn(Handle, Handle);
        required run: fn(Handle, Handle, *const Span, u64, *const Span, u64, *mut Message) -> Status;
    }
}

/// A struct with a leading size, copied as far as both sides know it.
///
/// # Errors
/// When the pointer is null or misaligned, or the size is none that a struct of this interface has.
///
/// # Safety
/// Unless it is null, `from` points to a `T`, the struct of an older version or that of a newer one, whose first word
/// says how many bytes it has. `T` begins with that word and zeros are a value of it.
pub unsafe fn copy_sized<T>(from: *const T, what: &str) -> Result<T, String> {
    const MOST: u64 = 1 << 16;
    if from.is_null() {
        return Err(format!("its {what} is null"));
    }
    if !from.is_aligned() {
        return Err(format!("its {what} is at {from:p}, which is no address of a struct"));
    }
    // SAFETY: the caller says that a size is there.
    let size = unsafe { from.cast::<u64>().read() };
    if !(8..=MOST).contains(&size) {
        return Err(format!("its {what} says that it has {size} bytes"));
    }
    let mut to = std::mem::MaybeUninit::<T>::zeroed();
    let common = (size as usize).min(size_of::<T>());
    // SAFETY: the source has `size` bytes and the target `size_of::<T>()`, neither less than `common`; what is not
    // copied stays zero, and zeros are a value of T.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.as_mut_ptr().cast::<u8>(), common);
        Ok(to.assume_init())
    }
}
