//! The adapter that the tests run on.

use percept_wgpu::WgpuDevice;

/// The first adapter, or `None` with a line that nobody overlooks. With `PERCEPT_REQUIRE_WGPU` set there must be one.
pub fn open() -> Option<WgpuDevice> {
    match WgpuDevice::open(0) {
        Ok(device) => Some(device),
        Err(e) if std::env::var_os("PERCEPT_REQUIRE_WGPU").is_none() => {
            eprintln!("\n*** SKIPPED, NOT TESTED: {e} ***\n");
            None
        }
        Err(e) => panic!("{e}"),
    }
}
