//! A loaded plug-in and calls into it.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::api::{self, Api, Args, RawError};

/// The code of an error that does not say what it is.
const UNKNOWN: i32 = 2;

/// A plug-in. It stays loaded until the process ends, since runtimes leave threads behind.
pub struct Plugin {
    api: &'static Api,
    path: PathBuf,
}

/// Why a call into a plug-in failed, in the plug-in's words.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The function's name.
    pub function: &'static str,
    /// The error's number, as in absl's status codes.
    pub code: i32,
    /// The plug-in's message.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (code {})", self.function, self.message.trim_end(), self.code)
    }
}

impl std::error::Error for Failure {}

// SAFETY: the table is constant, and PJRT's functions may be called from any thread.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

/// The plug-ins loaded so far: initializing one twice is not allowed.
static LOADED: Mutex<Option<HashMap<PathBuf, &'static Plugin>>> = Mutex::new(None);

impl Plugin {
    /// Load the plug-in in a file, or find it loaded.
    ///
    /// # Errors
    /// In words: when the file is no shared library, lacks the entry point, is of another major version, or refuses to
    /// start.
    pub fn load(path: &Path) -> Result<&'static Plugin, String> {
        let found = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(plugin) = loaded.get(&found) {
            return Ok(plugin);
        }
        let plugin: &'static Plugin = Box::leak(Box::new(Self::open(&found)?));
        loaded.insert(found, plugin);
        Ok(plugin)
    }

    fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the user names the library to run its code; what its initializers do is theirs.
        let library = unsafe { libloading::Library::new(path) };
        let library =
            library.map_err(|e| format!("{} is not a library that loads here: {e}", path.display()))?;
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        // SAFETY: the interface gives this name to a function of this type.
        let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const Api>(b"GetPjrtApi\0") };
        let entry = entry.map_err(|_| {
            format!(
                "{} has no GetPjrtApi, so it is no PJRT plug-in; name the library that exports it",
                path.display()
            )
        })?;
        // SAFETY: the entry takes nothing and gives a constant table or null; the table starts with its size and version.
        let api = unsafe { entry().as_ref() };
        let api = api.ok_or_else(|| format!("{} gave no table of functions", path.display()))?;
        let least = std::mem::offset_of!(Api, first) + api::SLOTS * size_of::<*const c_void>();
        if api.version.major != 0 || api.struct_size < least {
            return Err(format!(
                "{} speaks version {}.{} of the PJRT C API with a table of {} bytes; this program takes version 0 with {least} \
                 bytes or more (0.81 and later)",
                path.display(),
                api.version.major,
                api.version.minor,
                api.struct_size
            ));
        }
        let plugin = Self { api, path: path.to_path_buf() };
        plugin.call(&mut api::PluginInitialize::default()).map_err(|e| e.to_string())?;
        Ok(plugin)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version of the C API.
    pub fn version(&self) -> (i32, i32) {
        (self.api.version.major, self.api.version.minor)
    }

    fn function<A: Args>(&self) -> *const c_void {
        // SAFETY: the slots of all structures are below `SLOTS`, and the table was seen to be that long.
        unsafe { *self.api.first.as_ptr().add(A::SLOT) }
    }

    /// Call the function that takes this structure.
    pub(crate) fn call<A: Args>(&self, args: &mut A) -> Result<(), Failure> {
        let function = self.function::<A>();
        if function.is_null() {
            let message = "the plug-in does not have this function".into();
            return Err(Failure { function: A::NAME, code: api::UNIMPLEMENTED, message });
        }
        // SAFETY: every function of the table but the two for errors has this type, and takes `A`, as `Args` promises.
        let error = unsafe {
            let function: unsafe extern "C" fn(*mut A) -> *mut RawError = std::mem::transmute(function);
            function(args)
        };
        if error.is_null() { Ok(()) } else { Err(self.failure(A::NAME, error)) }
    }

    /// Call one of the two functions that give nothing.
    fn call_void<A: Args>(&self, args: &mut A) {
        let function = self.function::<A>();
        if !function.is_null() {
            // SAFETY: the two functions for errors have this type, and no other structure comes here.
            unsafe {
                let function: unsafe extern "C" fn(*mut A) = std::mem::transmute(function);
                function(args);
            }
        }
    }

    /// Read an error and give it back to the plug-in.
    fn failure(&self, function: &'static str, error: *mut RawError) -> Failure {
        let mut said = api::ErrorMessage { error, ..Default::default() };
        self.call_void(&mut said);
        // SAFETY: the plug-in gave the message and its length, and keeps it until the error is destroyed.
        let message = unsafe { text(said.message, said.message_size) };
        let mut code = api::ErrorGetCode { error, ..Default::default() };
        // An error about an error says less than the first one.
        let code = self.call(&mut code).map_or(UNKNOWN, |()| code.code);
        self.call_void(&mut api::ErrorDestroy { error, ..Default::default() });
        Failure { function, code, message }
    }

    /// Call a function whose failure nobody can act on: what frees something.
    pub(crate) fn release<A: Args>(&self, args: &mut A) {
        let _ = self.call(args);
    }
}

/// A copy of a plug-in's text; bytes that are no UTF-8 are replaced.
///
/// # Safety
/// `start` must be null or point at `size` bytes.
pub(crate) unsafe fn text(start: *const c_char, size: usize) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: the caller promises the bytes.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(start.cast(), size) }).into_owned()
}

/// A copy of a plug-in's list of pointers.
///
/// # Safety
/// `start` must be null or point at `count` pointers.
pub(crate) unsafe fn list<T>(start: *const *mut T, count: usize) -> Vec<*mut T> {
    if start.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller promises the pointers.
    unsafe { std::slice::from_raw_parts(start, count) }.to_vec()
}
