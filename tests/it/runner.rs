//! The programs that a runner keeps.

use percept::graph::{DType, Trace};
use percept::hal::CompileOptions;
use percept::infer::{Error, Result, Runner};
use percept::model::CausalModel;

use crate::devices;
use crate::sessions::{case, model};

/// Programs that are kept at most.
const KEPT: usize = 48;

/// Compile the program of a key where it is not kept: it adds the key to each of so many numbers. True when it was compiled.
fn prepare(runner: &mut Runner<usize>, model: &dyn CausalModel, key: usize) -> bool {
    let mut compiled = false;
    let graph = || {
        compiled = true;
        let t = Trace::new("add");
        let x = t.data("x", DType::F32, [key + 1]);
        t.output("sum", &(&x + key as f64));
        Ok(t.finish()?)
    };
    runner.prepare(&key, model.weights(), graph).unwrap();
    compiled
}

/// What the program of a key makes of 1, 2, 3 ...
fn run(runner: &mut Runner<usize>, key: usize) -> Result<Vec<f32>> {
    let numbers: Vec<u8> = (0..=key).flat_map(|i| (i as f32 + 1.0).to_le_bytes()).collect();
    let outputs = runner.run(&key, |device, _, ty| Ok(device.upload(ty, &numbers)?))?;
    let bytes = runner.device().read(&outputs[0].1)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

#[test]
fn of_more_programs_than_are_kept_the_one_not_used_for_longest_is_forgotten() {
    let model = model(&case("llama"));
    let mut runner = Runner::new(devices::device("cpu"), CompileOptions::default(), false);
    let expected = |key: usize| (0..=key).map(|i| (i + 1 + key) as f32).collect::<Vec<_>>();
    for key in 0..KEPT {
        assert!(prepare(&mut runner, &*model, key));
        assert_eq!(run(&mut runner, key).unwrap(), expected(key));
    }
    assert_eq!(runner.reports().count(), KEPT);
    // The first is used again, so that the second is the oldest.
    assert!(!prepare(&mut runner, &*model, 0));
    assert!(prepare(&mut runner, &*model, KEPT));
    assert_eq!(runner.reports().count(), KEPT);
    let forgotten = run(&mut runner, 1).unwrap_err();
    assert!(
        matches!(&forgotten, Error::Setting(why) if why.contains("before it was compiled")),
        "{forgotten}"
    );
    for key in [0, 2, KEPT / 2, KEPT - 1, KEPT] {
        assert!(!prepare(&mut runner, &*model, key), "{key} was forgotten");
        assert_eq!(run(&mut runner, key).unwrap(), expected(key));
    }
    // It comes again, in place of the one that is the oldest now.
    assert!(prepare(&mut runner, &*model, 1));
    assert_eq!(run(&mut runner, 1).unwrap(), expected(1));
    assert!(run(&mut runner, 3).is_err() && run(&mut runner, 4).is_ok());
    assert_eq!(runner.reports().count(), KEPT);
}
