//! The `percept` command line.

#[macro_use]
mod cli;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    without_a_desktop();
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", cli::output::printable_lines(&failure.message()));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Mesa's Vulkan layer for desktops asks the session which device it shows pictures on. Where there is no session, the
/// library that it asks prints an error each time. Devices are ranked here without that layer, so it is left out there.
fn without_a_desktop() {
    let session = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).is_absolute());
    if cfg!(target_os = "linux") && !session && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: this is the first thing that `main` does, so no other thread exists that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
