//! docs/support.md says what wgpu runs natively on lavapipe.

use std::path::Path;

use percept_hal::Backend;
use percept_hal::conformance::support::{replace_section, section};
use percept_wgpu::WgpuBackend;

#[test]
fn the_support_page_is_current() {
    let device = match WgpuBackend.open("wgpu:0") {
        Ok(d) if d.info().name.contains("llvmpipe") => d,
        Ok(d) => return eprintln!("skipped: the page is about lavapipe, this is {}", d.info().name),
        Err(e) => return eprintln!("skipped, there is no adapter: {e}"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/support.md");
    let page = std::fs::read_to_string(&path).expect("docs/support.md");
    let current = replace_section(&page, &section("wgpu on lavapipe", &*device).expect("the table builds"));
    if std::env::var_os("PERCEPT_UPDATE").is_some() {
        std::fs::write(&path, &current).expect("docs/support.md is writable");
    } else {
        assert!(
            page == current,
            "docs/support.md is out of date: run `PERCEPT_UPDATE=1 cargo test -p percept-wgpu --test support`"
        );
    }
}
