//! What is wrong with an id is said.

use percept_hal::Backend;
use percept_onnx::OnnxBackend;

use crate::support::library;

fn refusal(id: &str) -> String {
    match OnnxBackend.open(id) {
        Ok(_) => panic!("{id} opened"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn what_is_no_library_is_refused_by_name() {
    let e = refusal("onnx:/nowhere/libonnxruntime.so");
    assert!(e.contains("/nowhere/libonnxruntime.so") && e.contains("No such file"), "{e}");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("readme.txt");
    std::fs::write(&text, "not a library").unwrap();
    let e = refusal(&format!("onnx:{}", text.display()));
    assert!(e.contains("readme.txt") && e.contains("no library"), "{e}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_of_something_else_is_refused_by_name() {
    // The C library is mapped into this very process.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.lines().filter_map(|l| l.split_whitespace().last()).find(|p| p.contains("libc.so")).unwrap();
    let e = refusal(&format!("onnx:{libc}"));
    assert!(e.contains("OrtGetApiBase") && e.contains("libonnxruntime.so"), "{e}");
}

#[test]
fn unknown_options_name_the_known_ones() {
    let e = refusal("onnx:/nowhere/lib.so?colour=red");
    assert!(["colour", "ep", "fallback", "style", "threads"].iter().all(|o| e.contains(o)), "{e}");
}

#[test]
fn a_plug_in_that_is_none_is_refused_with_the_librarys_words() {
    let Some(library) = library() else { return };
    let e = refusal(&format!("onnx:{}?ep=/nowhere/plugin.so", library.display()));
    assert!(e.contains("/nowhere/plugin.so"), "{e}");
    // The runtime itself is a library, but has no execution providers to register.
    let e = refusal(&format!("onnx:{0}?ep={0}", library.display()));
    assert!(e.contains("cannot be opened"), "{e}");
}
