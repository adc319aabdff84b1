//! The library: its table of functions, its environment, and values in its memory.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use ort_sys::{
    ONNXTensorElementDataType, OrtAllocator, OrtAllocatorType, OrtApi, OrtApiBase, OrtDeviceMemoryType,
    OrtEnv, OrtEpDevice, OrtLoggingLevel, OrtMemType, OrtMemoryInfo, OrtModelEditorApi, OrtStatusPtr,
    OrtValue,
};

use crate::emit::Elem;

/// The version of the function table that is asked for: the first with all that is called here, that of
/// ONNX Runtime 1.24. Newer libraries serve it too.
const TABLE_VERSION: u32 = 24;

/// ONNX Runtime, loaded for the rest of the process: its environment is one for all, and its threads outlive
/// whoever started them.
pub struct Library {
    api: &'static OrtApi,
    editor: &'static OrtModelEditorApi,
    env: *mut OrtEnv,
    host_memory: *mut OrtMemoryInfo,
    host_allocator: *mut OrtAllocator,
    version: String,
    plugins: Mutex<HashMap<PathBuf, String>>,
    _library: ManuallyDrop<libloading::Library>,
}

// SAFETY: ONNX Runtime's documentation makes the environment, its default allocator and memory information
// usable from any thread; the tables are constant; the rest is guarded or immutable.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The libraries loaded so far, by their real paths.
static LOADED: Mutex<Option<HashMap<PathBuf, Arc<Library>>>> = Mutex::new(None);

/// Text that crosses to C; a NUL cannot.
pub fn text(s: &str) -> Result<CString, String> {
    CString::new(s).map_err(|_| format!("{s:?} has a NUL character"))
}

impl Library {
    /// Load the library at a path, or find it among those loaded.
    ///
    /// # Errors
    /// When it is no library, is not ONNX Runtime, or is an older one than is needed.
    pub fn load(path: &Path) -> Result<Arc<Library>, String> {
        let real = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(library) = loaded.get(&real) {
            return Ok(library.clone());
        }
        let library = Arc::new(Self::open(&real)?);
        loaded.insert(real, library.clone());
        Ok(library)
    }

    fn open(path: &Path) -> Result<Library, String> {
        let shown = path.display();
        // SAFETY: loading a library runs its initializers. The user names it by its path, which is consent.
        let library = unsafe { libloading::Library::new(path) }
            .map_err(|e| format!("{shown} is no library that can be loaded here: {e}"))?;
        // SAFETY: the symbol has this type in every release of ONNX Runtime; nothing else exports the name.
        let entry =
            unsafe { library.get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") };
        let entry = entry.map_err(|_| {
            format!("{shown} is not ONNX Runtime: it has no OrtGetApiBase. The library is libonnxruntime.so of the package onnxruntime")
        })?;
        // SAFETY: the entry takes nothing and gives a table that lives as long as the library, or null.
        let base =
            unsafe { entry().as_ref() }.ok_or_else(|| format!("{shown}: OrtGetApiBase gave nothing"))?;
        // SAFETY: the version is a static C string of the library.
        let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
        // SAFETY: asking for a version gives its table, which lives as long as the library, or null.
        let api = unsafe { (base.GetApi)(TABLE_VERSION).as_ref() };
        let api = api.ok_or_else(|| {
            format!(
                "{shown} is ONNX Runtime {version}, which is older than the 1.{TABLE_VERSION} that is needed"
            )
        })?;
        // SAFETY: the function takes nothing; its table lives as long as the library, or is null in builds
        // without the editor.
        let editor = unsafe { (api.GetModelEditorApi)().as_ref() };
        let editor = editor.ok_or_else(|| {
            format!(
                "{shown} was built without the model editor, by which weights are shared; use a full build"
            )
        })?;
        let mut library = Library {
            api,
            editor,
            env: ptr::null_mut(),
            host_memory: ptr::null_mut(),
            host_allocator: ptr::null_mut(),
            version,
            plugins: Mutex::default(),
            _library: ManuallyDrop::new(library),
        };
        let (mut options, mut env) = (ptr::null_mut(), ptr::null_mut());
        let (mut memory, mut allocator) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the out-pointers are ours, the name is a constant C string, and the options are released
        // once, after their last use.
        unsafe {
            library.check((api.CreateThreadingOptions)(&mut options))?;
            let made = (api.CreateEnvWithGlobalThreadPools)(
                OrtLoggingLevel::ORT_LOGGING_LEVEL_FATAL,
                c"percept".as_ptr(),
                options,
                &mut env,
            );
            (api.ReleaseThreadingOptions)(options);
            library.check(made)?;
            library.check((api.CreateCpuMemoryInfo)(
                OrtAllocatorType::OrtArenaAllocator,
                OrtMemType::OrtMemTypeDefault,
                &mut memory,
            ))?;
            library.check((api.GetAllocatorWithDefaultOptions)(&mut allocator))?;
        }
        (library.env, library.host_memory, library.host_allocator) = (env, memory, allocator);
        Ok(library)
    }

    /// The release, such as `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn api(&self) -> &'static OrtApi {
        self.api
    }

    pub(super) fn editor(&self) -> &'static OrtModelEditorApi {
        self.editor
    }

    pub(super) fn env(&self) -> *mut OrtEnv {
        self.env
    }

    /// The library's words when a call failed.
    pub(super) fn check(&self, status: OrtStatusPtr) -> Result<(), String> {
        if status.0.is_null() {
            return Ok(());
        }
        // SAFETY: a status that is not null holds a message until it is released, which happens once, here.
        unsafe {
            let message = CStr::from_ptr((self.api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            (self.api.ReleaseStatus)(status.0);
            Err(message)
        }
    }

    /// Register a plug-in with execution providers, once; its devices' names come back.
    ///
    /// # Errors
    /// When the path holds no such plug-in.
    pub fn plugin(&self, path: &Path) -> Result<(), String> {
        let real = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if plugins.contains_key(&real) {
            return Ok(());
        }
        let name = format!("percept-{}", plugins.len());
        let (c_name, c_path) = (text(&name)?, os_path(&real)?);
        // SAFETY: the environment lives as long as the library, and both strings outlive the call.
        self.check(unsafe {
            (self.api.RegisterExecutionProviderLibrary)(self.env, c_name.as_ptr(), c_path.as_ptr().cast())
        })?;
        plugins.insert(real, name);
        Ok(())
    }

    /// The devices of all execution providers.
    ///
    /// # Errors
    /// What the library says.
    pub fn devices(&self) -> Result<Vec<EpDevice>, String> {
        let (mut list, mut count) = (ptr::null(), 0);
        // SAFETY: the list belongs to the environment and lives as long; its strings do too.
        unsafe {
            self.check((self.api.GetEpDevices)(self.env, &mut list, &mut count))?;
            let devices = if count == 0 { &[] } else { std::slice::from_raw_parts(list, count) };
            let string = |s: *const c_char| CStr::from_ptr(s).to_string_lossy().into_owned();
            Ok(devices
                .iter()
                .map(|&device| EpDevice {
                    device,
                    provider: string((self.api.EpDevice_EpName)(device)),
                    vendor: string((self.api.HardwareDevice_Vendor)((self.api.EpDevice_Device)(device))),
                    kind: (self.api.HardwareDevice_Type)((self.api.EpDevice_Device)(device)) as i32,
                })
                .collect())
        }
    }

    /// Where values of an execution provider's device live; the host where it names no memory of its own.
    pub fn place(&self, device: Option<&EpDevice>) -> Place {
        let host = Place { allocator: self.host_allocator, on_device: false };
        let Some(device) = device else { return host };
        // SAFETY: the device belongs to the environment; the memory information does to the device.
        unsafe {
            let memory = (self.api.EpDevice_MemoryInfo)(
                device.device,
                OrtDeviceMemoryType::OrtDeviceMemoryType_DEFAULT,
            );
            if memory.is_null() {
                return host;
            }
            let mut allocator = ptr::null_mut();
            let made = (self.api.GetSharedAllocator)(self.env, memory, &mut allocator);
            match self.check(made) {
                Ok(()) if !allocator.is_null() => Place { allocator, on_device: true },
                _ => host,
            }
        }
    }

    /// A new value, its elements unspecified.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn allocate(self: &Arc<Self>, place: Place, elem: Elem, dims: &[usize]) -> Result<Value, String> {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let mut value = ptr::null_mut();
        // SAFETY: the allocator lives as long as the library, the shape outlives the call, and the value is
        // ours from now on.
        self.check(unsafe {
            (self.api.CreateTensorAsOrtValue)(
                place.allocator,
                shape.as_ptr(),
                shape.len(),
                number(elem),
                &mut value,
            )
        })?;
        self.own(value, elem, dims, place.on_device)
    }

    fn own(
        self: &Arc<Self>,
        value: *mut OrtValue,
        elem: Elem,
        dims: &[usize],
        on_device: bool,
    ) -> Result<Value, String> {
        let value = NonNull::new(value).ok_or("a value was not made")?;
        let bytes = dims.iter().product::<usize>() * elem.bytes();
        Ok(Value { value, library: self.clone(), bytes, on_device })
    }

    /// A value over bytes of ours.
    ///
    /// # Safety
    /// The bytes must stay where they are and as they are until nothing uses the value or what was made of it.
    pub unsafe fn borrow(
        self: &Arc<Self>,
        bytes: &[u8],
        elem: Elem,
        dims: &[usize],
    ) -> Result<Value, String> {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let mut value = ptr::null_mut();
        // SAFETY: the bytes outlive the value by this function's contract; the library reads them only, since
        // the value is never bound as an output.
        self.check(unsafe {
            (self.api.CreateTensorWithDataAsOrtValue)(
                self.host_memory,
                bytes.as_ptr().cast_mut().cast::<c_void>(),
                bytes.len(),
                shape.as_ptr(),
                shape.len(),
                number(elem),
                &mut value,
            )
        })?;
        self.own(value, elem, dims, false)
    }
}

/// A path as the library takes it.
fn os_path(path: &Path) -> Result<CString, String> {
    text(path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?)
}

/// ONNX Runtime's own enumeration has the format's numbers.
pub(super) fn number(elem: Elem) -> ONNXTensorElementDataType {
    use ONNXTensorElementDataType as T;
    match elem {
        Elem::F32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        Elem::U8 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        Elem::I32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        Elem::I64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        Elem::Bool => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        Elem::F16 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        Elem::U32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        Elem::U64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        Elem::BF16 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
    }
}

/// A device of an execution provider.
#[derive(Debug, Clone)]
pub struct EpDevice {
    pub(super) device: *const OrtEpDevice,
    /// The provider's name.
    pub provider: String,
    /// The hardware's vendor.
    pub vendor: String,
    /// 0 a processor, 1 a GPU, 2 an NPU.
    pub kind: i32,
}

// SAFETY: the pointer names a device of the environment, which is immutable and lives as long as the process.
unsafe impl Send for EpDevice {}
// SAFETY: as above.
unsafe impl Sync for EpDevice {}

/// Where values are allocated.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    allocator: *mut OrtAllocator,
    on_device: bool,
}

// SAFETY: shared allocators of the environment lock themselves and live as long as the process.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// A tensor in memory of the library, or over memory of ours.
pub struct Value {
    value: NonNull<OrtValue>,
    library: Arc<Library>,
    bytes: usize,
    on_device: bool,
}

// SAFETY: a value is a handle to memory; who writes and who reads it is kept apart by the device's stream.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    pub(super) fn raw(&self) -> *mut OrtValue {
        self.value.as_ptr()
    }

    /// Give up ownership.
    pub(super) fn into_raw(self) -> *mut OrtValue {
        ManuallyDrop::new(self).value.as_ptr()
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its memory is a device's and not the host's.
    pub fn is_on_device(&self) -> bool {
        self.on_device
    }

    fn data(&self) -> Result<*mut u8, String> {
        let mut data = ptr::null_mut();
        // SAFETY: the value is alive and a tensor.
        self.library.check(unsafe { (self.library.api.GetTensorMutableData)(self.raw(), &mut data) })?;
        Ok(data.cast())
    }

    /// Its elements in host memory, at least as long as the value lives.
    ///
    /// # Errors
    /// When they are on a device.
    pub fn as_bytes(&self) -> Result<&[u8], String> {
        if self.on_device {
            return Err("a value on a device has no bytes on the host".into());
        }
        if self.bytes == 0 {
            return Ok(&[]);
        }
        // SAFETY: a host tensor of this many bytes lies there; runs that write it hold it alone.
        Ok(unsafe { std::slice::from_raw_parts(self.data()?, self.bytes) })
    }

    /// Overwrite its elements, in host memory.
    ///
    /// # Errors
    /// When they are on a device, or the count differs.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.on_device || bytes.len() != self.bytes {
            return Err(format!("{} bytes for a value of {}", bytes.len(), self.bytes));
        }
        if self.bytes > 0 {
            // SAFETY: the tensor has as many bytes, on the host, and nobody else has it, since it is borrowed
            // mutably.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.data()?, bytes.len()) };
        }
        Ok(())
    }

    /// Copy the elements of another value of the same type, from or to a device.
    ///
    /// # Errors
    /// What the library says.
    pub fn copy_from(&mut self, source: &Value) -> Result<(), String> {
        let from = [source.raw().cast_const()];
        let mut to = [self.raw().cast_const()];
        // SAFETY: both lists hold one live tensor of one type, and the call waits without a stream.
        self.library.check(unsafe {
            (self.library.api.CopyTensors)(
                self.library.env,
                from.as_ptr(),
                to.as_mut_ptr(),
                ptr::null_mut(),
                1,
            )
        })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the value is released once, and nothing uses it any more.
        unsafe { (self.library.api.ReleaseValue)(self.raw()) }
    }
}
