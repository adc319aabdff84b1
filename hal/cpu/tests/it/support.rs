//! docs/support.md says what the CPU runs natively.

use std::path::Path;

use percept_hal::conformance::support::{replace_section, section};

#[test]
fn the_support_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/support.md");
    let page = std::fs::read_to_string(&path).expect("docs/support.md");
    let device = percept_cpu::open(1).expect("the CPU opens");
    let current = replace_section(&page, &section("cpu", &device).expect("the table builds"));
    if std::env::var_os("PERCEPT_UPDATE").is_some() {
        std::fs::write(&path, &current).expect("docs/support.md is writable");
    } else {
        assert!(
            page == current,
            "docs/support.md is out of date: run `PERCEPT_UPDATE=1 cargo test -p percept-cpu --test it support`"
        );
    }
}
