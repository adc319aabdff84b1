//! A shared library that exports a plug-in: loading it, and what both sides tell each other.

use std::ffi::{CStr, c_char};
use std::path::Path;

use crate::abi::{
    ABI_VERSION, Devices, Entry, EntryFunction, Graphs, Host, Kernels, OLDEST_ABI_VERSION, Oplib, copy_sized,
};
use crate::message::{MessageBuffer, text_at};

/// The symbol that plug-ins export.
const ENTRY: &str = "percept_plugin_entry";

/// A plug-in that works with this host.
pub struct Plugin {
    /// What it calls itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The keys of options that it knows.
    pub options: Vec<String>,
    /// Its devices.
    pub devices: Devices,
    /// Its op library.
    pub oplib: Option<Oplib>,
    /// Its kernels.
    pub kernels: Option<Kernels>,
    /// Its graph compiler.
    pub graphs: Option<Graphs>,
}

/// Lines of a plug-in for the log.
unsafe extern "C" fn log(level: u32, line: *const c_char) {
    // SAFETY: the header asks plug-ins for text that ends with a zero byte.
    let Some(line) = (unsafe { text_at(line) }) else { return };
    match level {
        1 => tracing::error!(target: "plugin", "{line}"),
        2 => tracing::warn!(target: "plugin", "{line}"),
        3 => tracing::info!(target: "plugin", "{line}"),
        _ => tracing::debug!(target: "plugin", "{line}"),
    }
}

/// Percept's version, for C.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no zero byte"),
};

/// A struct that never changes and points to static data alone.
struct Shared<T>(T);

// SAFETY: nothing changes the struct, and what it points to is static.
unsafe impl<T> Sync for Shared<T> {}

static HOST: Shared<Host> = Shared(Host {
    struct_size: Host::SIZE,
    abi_version: ABI_VERSION,
    oldest_abi_version: OLDEST_ABI_VERSION,
    version: VERSION.as_ptr(),
    log: Some(log),
});

impl Plugin {
    /// Load a plug-in. Its library stays loaded for good: nobody can tell whether its threads still run.
    ///
    /// # Errors
    /// In words: when the file is no library, lacks the symbol or a function, or speaks another version.
    pub fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: loading a library runs its initializers. Whoever names a plug-in asks for that.
        let library = unsafe { libloading::Library::new(path) }
            .map_err(|e| format!("the file is no library that can be loaded here: {e}"))?;
        let library = std::mem::ManuallyDrop::new(library);
        // SAFETY: a symbol of this name has this type, as the header says.
        let entry = unsafe { library.get::<EntryFunction>(ENTRY.as_bytes()) }
            .map_err(|_| format!("the library has no symbol {ENTRY}: it is no plug-in of Percept"))?;
        let mut buffer = MessageBuffer::new();
        let mut message = buffer.lend();
        // SAFETY: both structs are what the header says, and the host's stays for good.
        let given = unsafe { entry(&HOST.0, &mut message) };
        if given.is_null() {
            return Err(format!("it refuses to start: {}", buffer.text("without saying why")));
        }
        Self::read(given)
    }

    /// Hold what a plug-in tells to what this host takes.
    fn read(given: *const Entry) -> Result<Self, String> {
        // SAFETY: the pointer is not null; the header says what it points to, and so on below.
        let entry = unsafe { copy_sized(given, "percept_plugin")? };
        negotiate(entry.abi_version, entry.oldest_abi_version)?;
        // SAFETY: the header asks for text that ends with a zero byte.
        let (name, version) = unsafe { (text_at(entry.name), text_at(entry.version)) };
        // SAFETY: as above, for each table.
        let devices = unsafe { copy_sized(entry.devices, "percept_devices")? };
        let plugin = Self {
            name: name.filter(|n| !n.is_empty()).ok_or("it has no name")?,
            version: version.unwrap_or_default(),
            // SAFETY: the header asks for a list that ends with null.
            options: unsafe { option_keys(entry.options) },
            devices: Devices::checked(&devices)?,
            oplib: optional(entry.oplib, "percept_oplib", Oplib::checked)?,
            kernels: optional(entry.kernels, "percept_kernels", Kernels::checked)?,
            graphs: optional(entry.graphs, "percept_graphs", Graphs::checked)?,
        };
        if plugin.oplib.is_none() && plugin.kernels.is_none() && plugin.graphs.is_none() {
            return Err("it has neither an op library nor kernels nor a graph compiler".into());
        }
        plugin.whole_groups()?;
        Ok(plugin)
    }

    /// Functions that are of use together only.
    fn whole_groups(&self) -> Result<(), String> {
        let d = &self.devices;
        let events = [
            d.event_new.is_some(),
            d.event_free.is_some(),
            d.event_record.is_some(),
            d.event_wait.is_some(),
            d.queue_wait_event.is_some(),
            d.event_elapsed.is_some(),
        ];
        all_or_none(&events, "events")?;
        let Some(o) = &self.oplib else { return Ok(()) };
        let captures = [
            o.capture_begin.is_some(),
            o.capture_end.is_some(),
            o.capture_replay.is_some(),
            o.capture_free.is_some(),
        ];
        all_or_none(&captures, "captures")
    }
}

fn all_or_none(there: &[bool], what: &str) -> Result<(), String> {
    let count = there.iter().filter(|&&t| t).count();
    if count == 0 || count == there.len() {
        return Ok(());
    }
    Err(format!("it has {count} of the {} functions for {what}: all or none are needed", there.len()))
}

fn optional<R, T>(
    raw: *const R,
    what: &str,
    check: impl Fn(&R) -> Result<T, &'static str>,
) -> Result<Option<T>, String> {
    if raw.is_null() {
        return Ok(None);
    }
    // SAFETY: the pointer is not null, and the header says what it points to.
    let raw = unsafe { copy_sized(raw, what)? };
    Ok(Some(check(&raw)?))
}

/// Whether both sides take each other.
fn negotiate(version: u32, oldest_host: u32) -> Result<(), String> {
    if version < OLDEST_ABI_VERSION {
        return Err(format!(
            "it was built for version {version} of the plug-in interface; this Percept takes {OLDEST_ABI_VERSION} and \
             newer: build it again with this Percept's percept_plugin.h"
        ));
    }
    if oldest_host == 0 || oldest_host > version {
        return Err(format!(
            "it says that it was built for version {version} of the plug-in interface and works with hosts from \
             {oldest_host} on, which cannot be"
        ));
    }
    if oldest_host > ABI_VERSION {
        return Err(format!(
            "it needs version {oldest_host} of the plug-in interface; this Percept has {ABI_VERSION}: use a newer \
             Percept, or an older build of the plug-in"
        ));
    }
    Ok(())
}

/// The keys of a list that ends with null.
///
/// # Safety
/// The pointer is null, or such a list is there.
unsafe fn option_keys(list: *const *const c_char) -> Vec<String> {
    let mut keys = Vec::new();
    if list.is_null() {
        return keys;
    }
    loop {
        // SAFETY: the list goes on up to its null.
        let Some(key) = (unsafe { text_at(*list.add(keys.len())) }) else { return keys };
        keys.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    #[test]
    fn versions_are_negotiated_both_ways() {
        assert!(negotiate(ABI_VERSION, 1).is_ok());
        assert!(negotiate(ABI_VERSION + 5, ABI_VERSION).is_ok(), "a newer plug-in that works with this host");
        let newer = negotiate(ABI_VERSION + 1, ABI_VERSION + 1).unwrap_err();
        assert!(newer.contains("newer Percept"), "{newer}");
        assert!(negotiate(0, 0).unwrap_err().contains("build it again"));
        assert!(negotiate(1, 2).unwrap_err().contains("cannot be"));
    }

    #[test]
    fn sizes_of_other_versions_are_read_as_far_as_both_know() {
        #[repr(C)]
        struct Longer {
            known: abi::RawKernels,
            more: [u64; 4],
        }
        let mut longer = Longer { known: abi::RawKernels::zeroed(), more: [7; 4] };
        longer.known.struct_size = size_of::<Longer>() as u64;
        // SAFETY: the struct says its own size.
        let read = unsafe { copy_sized(&raw const longer.known, "table") }.unwrap();
        assert!(Kernels::checked(&read).unwrap_err().contains("limits"));
        assert_eq!(longer.more, [7; 4]);
        for size in [0u64, 7, 1 << 40] {
            longer.known.struct_size = size;
            // SAFETY: nothing but the size is read.
            let refused = unsafe { copy_sized(&raw const longer.known, "table") }.unwrap_err();
            assert!(refused.contains(&size.to_string()), "{refused}");
        }
        // SAFETY: null is refused, and so is what has no alignment.
        unsafe {
            assert!(copy_sized(std::ptr::null::<Host>(), "table").unwrap_err().contains("null"));
            assert!(copy_sized(std::ptr::without_provenance::<Host>(3), "table").is_err());
        }
    }
}
