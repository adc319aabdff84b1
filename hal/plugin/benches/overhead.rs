//! What an operation of a plug-in costs on our side: a long program of additions whose launch does nothing.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use percept_graph::{DType, HostTensor, Trace};
use percept_hal::{Arg, CompileOptions};
use percept_plugin::PluginBackend;

const OPERATIONS: usize = 1000;
const RUNS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, definitions) in [
        ("one by one, guards looked at", &["-DEMPTY"][..]),
        ("recorded and replayed", &["-DEMPTY", "-DCAPTURES", "-DLONG_CAPTURES"]),
    ] {
        println!("{name}: {:.3} us an operation", overhead(definitions)?.as_secs_f64() * 1e6);
    }
    Ok(())
}

fn overhead(definitions: &[&str]) -> Result<Duration, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("empty.so");
    let built = Command::new("cc")
        .args(["-std=c99", "-O2", "-fPIC", "-shared", "-I"])
        .arg(root.join("../include"))
        .args(definitions)
        .arg(root.join("tests/trial.c"))
        .arg("-o")
        .arg(&file)
        .status()?;
    if !built.success() {
        return Err("the plug-in does not compile".into());
    }
    let device = PluginBackend::default().open_device(&format!("plugin:{}", file.display()))?;
    let t = Trace::new("additions");
    let x = t.data("x", DType::F32, [16]);
    let mut y = x.clone();
    for _ in 0..OPERATIONS {
        y = &y + &x;
    }
    t.output("y", &y);
    let options = CompileOptions { fuse: false, ..CompileOptions::default() };
    let executable = device.compile(&t.finish()?, &options)?;
    let x = HostTensor::from_f32([16], &[1.0; 16])?;
    let buffer = device.upload(x.ty(), x.bytes())?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        drop(executable.run(vec![Arg::Borrow(buffer.clone())])?);
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[RUNS / 2] / OPERATIONS as u32)
}
