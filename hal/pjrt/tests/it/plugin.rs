//! Where the plug-in under test is, and what is bad input to it.

use std::path::PathBuf;

use percept_hal::{Backend, Error};
use percept_pjrt::{PjrtBackend, open};

use crate::{assets, needs};

/// The id of the plug-in under test: that in `PERCEPT_PJRT_PLUGIN`, or the CPU plug-in that `cargo xtask assets` fetches.
/// Without either the test is skipped.
pub fn id() -> Option<String> {
    let named = std::env::var_os("PERCEPT_PJRT_PLUGIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    let fetched = || assets::folder().map(|folder| folder.join("pjrt-cpu/pjrt_c_api_cpu_plugin.so"));
    let Some(path) = named.or_else(|| fetched().filter(|path| path.exists())) else {
        needs::skip(
            "no PJRT plug-in; run `cargo xtask assets`, or set PERCEPT_PJRT_PLUGIN to the path of one",
        );
        return None;
    };
    Some(format!("pjrt:{}", path.display()))
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    let Some(id) = id() else { return };
    let Err(e) = open(&format!("{id}:99")) else { panic!("there are no hundred devices") };
    assert!(matches!(e, Error::UnknownDevice { .. }), "{e}");
    assert!(e.to_string().contains(&format!("{id}:0")), "{e}");
}

#[test]
fn a_library_that_is_no_plugin_is_refused_by_name() {
    // The plug-in links the C library, whose versioned name loads everywhere it does.
    let Err(e) = PjrtBackend.open("pjrt:/lib/x86_64-linux-gnu/libm.so.6") else {
        panic!("libm is no plug-in")
    };
    let text = e.to_string();
    assert!(matches!(e, Error::Open { .. }), "{text}");
    assert!(text.contains("GetPjrtApi") || text.contains("No such file"), "{text}");
}

#[test]
fn the_device_says_what_it_is() {
    let Some(id) = id() else { return };
    let device = open(&id).unwrap();
    let info = percept_hal::Device::info(&device);
    assert_eq!(info.id, id);
    assert!(info.driver.starts_with("PJRT C API 0."), "{}", info.driver);
    assert!(!info.name.is_empty() && !info.vendor.is_empty());
}
