//! What becomes of a test on a machine that lacks what it needs: under `cargo xtask test` it fails, elsewhere it is
//! skipped, counted, and named when its program ends. Tests and xtask include this file by its path, so that they agree.

use std::ffi::c_int;
use std::io::Write as _;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

/// The environment variable under which nothing is skipped. `cargo xtask test` sets it.
pub const REQUIRE_ALL: &str = "PERCEPT_REQUIRE_ALL";

/// The tests of this program that were skipped, and what each lacked.
#[allow(dead_code, reason = "xtask reads the variable's name alone")]
static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records that the running test is skipped for want of `missing`, which says how to get it too. The caller returns.
///
/// # Panics
/// With [`REQUIRE_ALL`] set.
#[track_caller]
#[allow(dead_code, reason = "xtask reads the variable's name alone")]
pub fn skip(missing: &str) {
    assert!(
        std::env::var_os(REQUIRE_ALL).is_none(),
        "{missing}. {REQUIRE_ALL} is set, so no test passes without it"
    );
    let thread = std::thread::current();
    // With one thread, tests run on the main one, which does not have their names.
    let test = thread.name().filter(|name| *name != "main").map(str::to_owned);
    let test = test.unwrap_or_else(|| Location::caller().to_string());
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if skipped.is_empty() && atexit(report) != 0 {
        panic!("{missing}, and a skipped test could not be reported at the end");
    }
    skipped.push(format!("{test}: {missing}"));
}

// SAFETY: the declaration is the C standard's, and any function that does not unwind may be registered.
unsafe extern "C" {
    #[allow(dead_code, reason = "xtask reads the variable's name alone")]
    safe fn atexit(callback: extern "C" fn()) -> c_int;
}

/// Prints what was skipped. The harness shows no output of tests that pass, and is over when this runs.
extern "C" fn report() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let list = skipped.join("\n    ");
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED, NOT TESTED ({}):\n    {list}\n", skipped.len());
}
