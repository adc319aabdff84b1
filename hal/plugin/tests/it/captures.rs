//! What the host asks of an op library, counted by the plug-in.

use percept_graph::{DType, HostTensor, Trace};
use percept_hal::{Arg, CompileOptions};
use percept_plugin::PluginBackend;

use crate::build::trial;

/// Runs x -> x + x, squared again and again, `runs` times; the plug-in's counts.
fn counts(definitions: &[&str], runs: usize) -> Option<String> {
    let built = trial(definitions)?;
    let file = built.folder().join("counts");
    {
        let device =
            PluginBackend::default().open_device(&built.id(&format!("?counts={}", file.display()))).unwrap();
        let t = Trace::new("program");
        let x = t.data("x", DType::F32, [8]);
        let mut y = &x + &x;
        for _ in 0..5 {
            y = &y * &y;
        }
        t.output("y", &y);
        let options = CompileOptions { fuse: false, ..CompileOptions::default() };
        let executable = device.compile(&t.finish().unwrap(), &options).unwrap();
        let x = HostTensor::from_f32([8], &[0.5, 0.25, 0.75, 0.1, 0.2, 0.3, 0.4, 0.6]).unwrap();
        let buffer = device.upload(x.ty(), x.bytes()).unwrap();
        for _ in 0..runs {
            let out = executable.run(vec![Arg::Borrow(buffer.clone())]).unwrap();
            let bytes = device.read(&out[0]).unwrap();
            let first = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(first, 1.0, "(2 * 0.5)^32");
        }
    }
    Some(std::fs::read_to_string(file).expect("the device was closed"))
}

#[test]
fn an_operation_is_asked_about_once_and_every_handle_is_freed() {
    let Some(counts) = counts(&[], 3) else { return };
    // Six operations, of which five are equal; plans and memory are gone before the device is.
    assert_eq!(counts.trim(), "queries 2 launches 18 captures 0 replays 0 plans 0 memories 0");
}

#[test]
fn a_program_that_comes_again_is_recorded_and_replayed() {
    let Some(counts) = counts(&["-DCAPTURES"], 5) else { return };
    // The first run is launched, the second recorded and replayed, the others replayed.
    assert_eq!(counts.trim(), "queries 2 launches 6 captures 0 replays 4 plans 0 memories 0");
}
