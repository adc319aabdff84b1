//! The `percept` command line.

#[macro_use]
mod cli;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    leave_absent_displays_alone();
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", cli::output::printable_lines(&failure.message()));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Mesa puts a layer between Vulkan's loader and every program, which asks the display's server for its
/// favourite GPU. Where the session has no folder for Wayland's socket, libwayland prints an error for each
/// time that it is asked. There is nobody to ask then, so the layer is turned off; what it does, to put one
/// GPU before the others, is of no use here.
fn leave_absent_displays_alone() {
    const LAYER: &str = "NODEVICE_SELECT";
    let session = std::env::var_os("XDG_RUNTIME_DIR");
    let absent = session.is_none_or(|folder| !Path::new(&folder).is_absolute());
    if cfg!(target_os = "linux") && absent && std::env::var_os(LAYER).is_none() {
        // SAFETY: this is the first thing that the program does, so it has no other thread that could read
        // the environment meanwhile.
        unsafe { std::env::set_var(LAYER, "1") };
    }
}
