//! The parts of the PJRT C API that are called here, as C declares them.
//!
//! Every function takes one structure, which starts with its size and a pointer to extensions, and gives an error or
//! null. Structures only grow, at their end, and the table of functions too: a size tells which fields the caller
//! knows. The sizes here are those of version 0.81; plug-ins of later versions take them.

use std::ffi::{c_char, c_int, c_void};

/// Declares a C type of which only pointers exist.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[repr(C)] pub struct $name { _private: [u8; 0] })*
    };
}

opaque! {
    /// Why a call failed.
    RawError;
    /// Something that will have happened.
    RawEvent;
    /// A runtime with its devices.
    RawClient;
    /// A device of a client.
    RawDevice;
    /// What a device is.
    RawDescription;
    /// An array in a device's memory.
    RawBuffer;
    /// A program that a client can run.
    RawLoaded;
    /// A program.
    RawExecutable;
    /// Devices that need not be there.
    RawTopology;
}

/// The table of functions.
#[repr(C)]
pub struct Api {
    pub struct_size: usize,
    pub extensions: *const c_void,
    pub version: Version,
    // `slot::COUNT` functions at least.
    pub first: [*const c_void; 0],
}

#[repr(C)]
pub struct Version {
    pub struct_size: usize,
    pub extensions: *const c_void,
    pub major: c_int,
    pub minor: c_int,
}

/// A structure that one function of the table takes.
///
/// # Safety
/// The layout must be the one that C declares for the function in this slot, starting with the structure's size.
pub unsafe trait Args {
    /// The function's place in the table.
    const SLOT: usize;
    /// The function's name.
    const NAME: &'static str;
}

/// Declares the structure of a function, with a constructor that zeroes all but its size.
macro_rules! functions {
    ($($args:ident = $slot:literal $function:literal { $($field:ident: $ty:ty,)* })*) => {
        $(
            #[repr(C)]
            pub struct $args {
                pub struct_size: usize,
                pub extensions: *const c_void,
                $(pub $field: $ty,)*
            }

            // SAFETY: the fields follow the declaration of the function named beside them.
            unsafe impl Args for $args {
                const SLOT: usize = $slot;
                const NAME: &'static str = $function;
            }

            impl Default for $args {
                fn default() -> Self {
                    // SAFETY: every field is a number, a pointer or an optional function, for which zero is a value.
                    let mut args: Self = unsafe { std::mem::zeroed() };
                    args.struct_size = std::mem::size_of::<Self>();
                    args
                }
            }
        )*

        /// The least number of functions that a table must have.
        pub const SLOTS: usize = {
            let slots = [$($slot),*];
            let (mut i, mut most) = (0, 0);
            while i < slots.len() {
                if slots[i] > most {
                    most = slots[i];
                }
                i += 1;
            }
            most + 1
        };
    };
}

functions! {
    ErrorDestroy = 0 "PJRT_Error_Destroy" { error: *mut RawError, }
    ErrorMessage = 1 "PJRT_Error_Message" { error: *const RawError, message: *const c_char, message_size: usize, }
    ErrorGetCode = 2 "PJRT_Error_GetCode" { error: *const RawError, code: c_int, }
    PluginInitialize = 3 "PJRT_Plugin_Initialize" {}
    EventDestroy = 5 "PJRT_Event_Destroy" { event: *mut RawEvent, }
    EventIsReady = 6 "PJRT_Event_IsReady" { event: *mut RawEvent, is_ready: bool, }
    EventAwait = 8 "PJRT_Event_Await" { event: *mut RawEvent, }
    ClientCreate = 10 "PJRT_Client_Create" {
        create_options: *const NamedValue,
        num_options: usize,
        kv_get: *const c_void,
        kv_get_user: *mut c_void,
        kv_put: *const c_void,
        kv_put_user: *mut c_void,
        client: *mut RawClient,
        kv_try_get: *const c_void,
        kv_try_get_user: *mut c_void,
    }
    ClientDestroy = 11 "PJRT_Client_Destroy" { client: *mut RawClient, }
    ClientPlatformName = 12 "PJRT_Client_PlatformName" {
        client: *mut RawClient,
        name: *const c_char,
        name_size: usize,
    }
    ClientPlatformVersion = 14 "PJRT_Client_PlatformVersion" {
        client: *mut RawClient,
        version: *const c_char,
        version_size: usize,
    }
    ClientAddressableDevices = 16 "PJRT_Client_AddressableDevices" {
        client: *mut RawClient,
        devices: *const *mut RawDevice,
        num_devices: usize,
    }
    ClientCompile = 20 "PJRT_Client_Compile" {
        client: *mut RawClient,
        program: *const ProgramText,
        options: *const c_char,
        options_size: usize,
        executable: *mut RawLoaded,
    }
    BufferFromHost = 22 "PJRT_Client_BufferFromHostBuffer" {
        client: *mut RawClient,
        data: *const c_void,
        element: c_int,
        dims: *const i64,
        num_dims: usize,
        byte_strides: *const i64,
        num_byte_strides: usize,
        semantics: c_int,
        device: *mut RawDevice,
        memory: *mut c_void,
        layout: *mut c_void,
        done: *mut RawEvent,
        buffer: *mut RawBuffer,
    }
    DescriptionId = 23 "PJRT_DeviceDescription_Id" { description: *mut RawDescription, id: c_int, }
    DescriptionKind = 26 "PJRT_DeviceDescription_Kind" {
        description: *mut RawDescription,
        kind: *const c_char,
        kind_size: usize,
    }
    DeviceGetDescription = 29 "PJRT_Device_GetDescription" {
        device: *mut RawDevice,
        description: *mut RawDescription,
    }
    DeviceMemoryStats = 34 "PJRT_Device_MemoryStats" {
        device: *mut RawDevice,
        bytes_in_use: i64,
        peak: Counted,
        allocations: Counted,
        largest: Counted,
        limit: Counted,
        reserved: Counted,
        peak_reserved: Counted,
        reservable: Counted,
        largest_free: Counted,
        pool: Counted,
        peak_pool: Counted,
    }
    ExecutableDestroy = 40 "PJRT_Executable_Destroy" { executable: *mut RawExecutable, }
    ExecutableNumOutputs = 44 "PJRT_Executable_NumOutputs" {
        executable: *mut RawExecutable,
        num_outputs: usize,
    }
    LoadedDestroy = 50 "PJRT_LoadedExecutable_Destroy" { executable: *mut RawLoaded, }
    LoadedGetExecutable = 51 "PJRT_LoadedExecutable_GetExecutable" {
        loaded: *mut RawLoaded,
        executable: *mut RawExecutable,
    }
    LoadedExecute = 55 "PJRT_LoadedExecutable_Execute" {
        executable: *mut RawLoaded,
        options: *mut ExecuteOptions,
        arguments: *const *const *mut RawBuffer,
        num_devices: usize,
        num_args: usize,
        outputs: *const *mut *mut RawBuffer,
        complete: *mut *mut RawEvent,
        device: *mut RawDevice,
    }
    BufferDestroy = 58 "PJRT_Buffer_Destroy" { buffer: *mut RawBuffer, }
    BufferToHost = 70 "PJRT_Buffer_ToHostBuffer" {
        buffer: *mut RawBuffer,
        layout: *mut HostLayout,
        dst: *mut c_void,
        dst_size: usize,
        event: *mut RawEvent,
    }
    TopologyCreate = 82 "PJRT_TopologyDescription_Create" {
        name: *const c_char,
        name_size: usize,
        create_options: *const NamedValue,
        num_options: usize,
        topology: *mut RawTopology,
    }
    TopologyDestroy = 83 "PJRT_TopologyDescription_Destroy" { topology: *mut RawTopology, }
    TopologyDescriptions = 86 "PJRT_TopologyDescription_GetDeviceDescriptions" {
        topology: *const RawTopology,
        descriptions: *const *mut RawDescription,
        num_descriptions: usize,
    }
    Compile = 89 "PJRT_Compile" {
        topology: *const RawTopology,
        program: *const ProgramText,
        options: *const c_char,
        options_size: usize,
        client: *mut RawClient,
        executable: *mut RawExecutable,
    }
}

/// A number that may not be known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counted {
    pub value: i64,
    pub known: bool,
}

/// A program as text.
#[repr(C)]
pub struct ProgramText {
    struct_size: usize,
    extensions: *const c_void,
    code: *const c_char,
    code_size: usize,
    format: *const c_char,
    format_size: usize,
}

impl ProgramText {
    /// A module in MLIR's text; it must outlive the value.
    pub fn mlir(code: &str) -> Self {
        const FORMAT: &str = "mlir";
        Self {
            struct_size: std::mem::size_of::<Self>(),
            extensions: std::ptr::null(),
            code: code.as_ptr().cast(),
            code_size: code.len(),
            format: FORMAT.as_ptr().cast(),
            format_size: FORMAT.len(),
        }
    }
}

/// Options of a run.
#[repr(C)]
pub struct ExecuteOptions {
    struct_size: usize,
    extensions: *const c_void,
    send_callbacks: *mut c_void,
    receive_callbacks: *mut c_void,
    num_send: usize,
    num_receive: usize,
    launch_id: c_int,
    non_donatable: *const i64,
    num_non_donatable: usize,
    context: *mut c_void,
    call_location: *const c_char,
    num_tasks: usize,
    task_ids: *mut c_int,
    incarnations: *mut i64,
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        // SAFETY: every field is a number or a pointer, for which zero is a value.
        let mut options: Self = unsafe { std::mem::zeroed() };
        options.struct_size = std::mem::size_of::<Self>();
        options
    }
}

/// How an array lies in host memory: in order from the fastest dimension on, without tiles.
#[repr(C)]
pub struct HostLayout {
    struct_size: usize,
    extensions: *const c_void,
    tiled: TiledLayout,
    kind: c_int,
}

#[repr(C)]
struct TiledLayout {
    struct_size: usize,
    extensions: *const c_void,
    minor_to_major: *const i64,
    num_minor_to_major: usize,
    tile_dims: *const i64,
    tile_dim_sizes: *const usize,
    num_tiles: usize,
}

impl HostLayout {
    /// From the numbers of the dimensions, the fastest first; they must outlive the value.
    pub fn new(minor_to_major: &[i64]) -> Self {
        Self {
            struct_size: std::mem::size_of::<Self>(),
            extensions: std::ptr::null(),
            tiled: TiledLayout {
                struct_size: std::mem::size_of::<TiledLayout>(),
                extensions: std::ptr::null(),
                minor_to_major: minor_to_major.as_ptr(),
                num_minor_to_major: minor_to_major.len(),
                tile_dims: std::ptr::null(),
                tile_dim_sizes: std::ptr::null(),
                num_tiles: 0,
            },
            kind: 0,
        }
    }
}

/// A named option of a client or a topology.
#[repr(C)]
pub struct NamedValue {
    struct_size: usize,
    extensions: *const c_void,
    name: *const c_char,
    name_size: usize,
    kind: c_int,
    value: ValueBits,
    value_size: usize,
}

#[repr(C)]
union ValueBits {
    text: *const c_char,
    integer: i64,
    flag: bool,
}

impl NamedValue {
    /// An option; name and text must outlive the value.
    pub fn new(name: &str, value: &crate::options::OptionValue) -> Self {
        use crate::options::OptionValue;
        let (kind, bits, size) = match value {
            OptionValue::Text(text) => (0, ValueBits { text: text.as_ptr().cast() }, text.len()),
            OptionValue::Integer(integer) => (1, ValueBits { integer: *integer }, 1),
            OptionValue::Flag(flag) => (4, ValueBits { flag: *flag }, 1),
        };
        Self {
            struct_size: std::mem::size_of::<Self>(),
            extensions: std::ptr::null(),
            name: name.as_ptr().cast(),
            name_size: name.len(),
            kind,
            value: bits,
            value_size: size,
        }
    }
}

/// Element types of buffers, by their numbers in C.
pub mod element {
    use std::ffi::c_int;

    pub const PRED: c_int = 1;
    pub const S32: c_int = 4;
    pub const U8: c_int = 6;
    pub const U32: c_int = 8;
    pub const F16: c_int = 10;
    pub const F32: c_int = 11;
    pub const BF16: c_int = 13;
}

/// The error code of memory that ran out.
pub const RESOURCE_EXHAUSTED: c_int = 8;
/// The error code of what a plug-in does not have.
pub const UNIMPLEMENTED: c_int = 12;
/// The host's bytes are not read after the call.
pub const IMMUTABLE_ONLY_DURING_CALL: c_int = 0;

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// Sizes and slots of pjrt_c_api.h, version 0.81, printed by a C program.
    #[test]
    fn layouts_are_those_of_the_header() {
        assert_eq!(size_of::<ClientCreate>(), 88);
        assert_eq!(size_of::<BufferFromHost>(), 120);
        assert_eq!(size_of::<LoadedExecute>(), 80);
        assert_eq!(size_of::<ExecuteOptions>(), 112);
        assert_eq!(size_of::<NamedValue>(), 56);
        assert_eq!(size_of::<HostLayout>(), 80);
        assert_eq!(size_of::<DeviceMemoryStats>(), 192);
        assert_eq!(size_of::<ProgramText>(), 48);
        assert_eq!(std::mem::offset_of!(Api, first), 40);
        assert_eq!(
            (ClientCompile::SLOT, LoadedExecute::SLOT, BufferToHost::SLOT, Compile::SLOT),
            (20, 55, 70, 89)
        );
    }
}
