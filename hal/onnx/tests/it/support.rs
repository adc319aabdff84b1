//! What the tests share.

use std::path::PathBuf;
use std::sync::Arc;

use percept_hal::{Backend, Device};
use percept_onnx::OnnxBackend;

use crate::{assets, needs};

/// The library of ONNX Runtime: the file that `PERCEPT_ONNXRUNTIME` names, or what `cargo xtask assets` fetched.
/// Where there is none the test is skipped.
#[track_caller]
pub fn library() -> Option<PathBuf> {
    let named = std::env::var_os("PERCEPT_ONNXRUNTIME").map(PathBuf::from);
    let fetched = || assets::folder().map(|folder| folder.join("onnxruntime/libonnxruntime.so.1.32.0"));
    let found = named.or_else(fetched).filter(|file| file.exists());
    if found.is_none() {
        needs::skip(
            "ONNX Runtime is not here; run `cargo xtask assets`, or set PERCEPT_ONNXRUNTIME to libonnxruntime.so",
        );
    }
    found
}

/// The device of an id's options, such as `style=plain`.
#[track_caller]
pub fn open(options: &str) -> Option<Arc<dyn Device>> {
    let id = format!("onnx:{}?{options}", library()?.display());
    Some(OnnxBackend.open(&id).unwrap_or_else(|e| panic!("{e}")))
}
