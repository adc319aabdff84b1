//! Where the real weights are that `cargo xtask assets` fetches. Tests and xtask include this file by its path, so that
//! they agree.

use std::env;
use std::path::PathBuf;

/// The folder of the assets: `PERCEPT_ASSETS`, or a folder in the user's cache. `None` where neither is known.
#[allow(dead_code)]
pub fn folder() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME");
    let cache = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    };
    variable("PERCEPT_ASSETS").or_else(|| cache.map(|cache| cache.join("percept").join("assets")))
}

/// A file or folder of the weights, such as `smollm2/SmolLM2-135M-Instruct.Q4_1.gguf` or `whisper-tiny.en`.
///
/// # Panics
/// When it is not there, saying how to fetch it: a test that needs weights does not pass without them.
#[allow(dead_code)]
pub fn asset(path: &str) -> PathBuf {
    let found = folder().map(|folder| folder.join(path)).filter(|file| file.exists());
    found.unwrap_or_else(|| {
        let place = folder().map_or("no cache folder".into(), |folder| folder.display().to_string());
        panic!("'{path}' is not in {place}; run `cargo xtask assets`, or set PERCEPT_ASSETS to where it put the weights")
    })
}
