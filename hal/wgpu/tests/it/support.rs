//! docs/support.md says what wgpu runs natively on lavapipe.

// Setup installs lavapipe on Linux alone.
#![cfg(target_os = "linux")]

use std::path::Path;

use percept_hal::Device;
use percept_hal::conformance::support::{replace_section, section};

use crate::{adapter, needs};

#[test]
fn the_support_page_is_current() {
    let Some(device) = adapter::device() else { return };
    if !device.info().name.contains("llvmpipe") {
        needs::skip(&format!(
            "the page is about lavapipe, and the first adapter is {}: install Mesa's Vulkan drivers and set \
             VK_ICD_FILENAMES to lavapipe's file, as `cargo xtask test` does",
            device.info().name
        ));
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/support.md");
    let page = std::fs::read_to_string(&path).expect("docs/support.md");
    let current = replace_section(&page, &section("wgpu on lavapipe", &device).expect("the table builds"));
    if std::env::var_os("PERCEPT_UPDATE").is_some() {
        std::fs::write(&path, &current).expect("docs/support.md is writable");
    } else {
        assert!(
            page == current,
            "docs/support.md is out of date: run `PERCEPT_UPDATE=1 cargo test -p percept-wgpu --test it support`"
        );
    }
}
