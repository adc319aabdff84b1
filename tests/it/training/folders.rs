//! The folder of a run: held by one run at a time, gone on with after a stop, a damage or a change of settings.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use percept::hal::CompileOptions;
use percept::train::{Config, Error, Event, Result, RunContext, Single, Stop, Watch, run};

use super::cpu;
use super::runs::{command, file, losses, train, weights};

const EVERY_FIVE: &str = "[optimizer]\nrate = 5e-3\n[evaluate]\nshow = 0\n[checkpoint]\nevery = 5\n";

fn notes(events: &[Event]) -> String {
    let text = |e: &Event| if let Event::Note { text, .. } = e { Some(text.clone()) } else { None };
    events.iter().filter_map(text).collect::<Vec<_>>().join("\n")
}

/// Train until after a step, as a run that is asked to stop.
fn until(text: &str, step: u64, resume: bool) -> Result<()> {
    struct Until(u64, bool);
    impl Watch for Until {
        fn event(&mut self, event: &Event) -> Result<()> {
            self.1 |= matches!(event, Event::Step(s) if s.step == self.0);
            Ok(())
        }
        fn stop(&self) -> Option<Stop> {
            self.1.then_some(Stop::Terminate)
        }
    }
    let config = Config::parse(Path::new("run.toml"), text, &[]).unwrap();
    let context = RunContext { device: cpu(), compile: CompileOptions::default(), peers: &Single };
    run(&config, &context, resume, &mut Until(step, false)).map(|_| ())
}

/// While a run goes, another one is started in its folder with and without --resume, as a process of its own.
#[test]
fn a_second_run_in_a_folder_is_refused_and_changes_nothing() {
    struct Second(std::path::PathBuf, Vec<(Option<i32>, String)>);
    impl Watch for Second {
        fn event(&mut self, event: &Event) -> Result<()> {
            if matches!(event, Event::Step(s) if s.step == 7) {
                // What the first run is about to write; a second one would take it for a dead run's.
                let half = self.0.with_file_name("out").join("checkpoints/step-00000010.percept.tmp");
                std::fs::create_dir_all(&half).unwrap();
                for resume in [true, false] {
                    let mut command = command(&self.0, &[]);
                    if !resume {
                        command = std::process::Command::new(env!("CARGO_BIN_EXE_percept"));
                        command.arg("train").arg(&self.0).args(["--device", "cpu"]);
                    }
                    let output = command.output().unwrap();
                    self.1.push((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()));
                }
                std::fs::remove_dir(&half).unwrap();
            }
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), EVERY_FIVE).replace("steps = 24", "steps = 10");
    let path = folder.path().join("run.toml");
    std::fs::write(&path, &text).unwrap();
    let config = Config::parse(&path, &text, &[]).unwrap();
    let context = RunContext { device: cpu(), compile: CompileOptions::default(), peers: &Single };
    let mut second = Second(path, Vec::new());
    let done = run(&config, &context, false, &mut second).unwrap();
    assert!(done[0].model.join("model.safetensors").is_file() && second.1.len() == 2);
    for (code, said) in second.1 {
        let own = format!("process {}", std::process::id());
        assert!(
            code == Some(1) && said.contains("going on here already") && said.contains(&own),
            "{code:?} {said}"
        );
    }
}

/// Ctrl-C and SIGTERM while `percept train` trains: it saves, says so and ends; going on ends with the same bits.
#[cfg(unix)]
#[test]
fn a_signal_saves_a_checkpoint_and_ends_the_run() {
    let written = |folder: &Path| {
        let path = folder.join("run.toml");
        let rest = "[optimizer]\nrate = 5e-3\n[lora]\nrank = 4\nlayers = ['*_proj']\ndropout = 0.1\n[evaluate]\nshow = 0\n";
        std::fs::write(&path, file(folder, rest).replace("steps = 24", "steps = 120")).unwrap();
        path
    };
    let whole = tempfile::tempdir().unwrap();
    assert!(command(&written(whole.path()), &[]).status().unwrap().success());
    let stopped = tempfile::tempdir().unwrap();
    let path = written(stopped.path());
    for (signal, name, code) in [("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143)] {
        let mut child = command(&path, &[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        // A line about a step comes six times over the whole run.
        while !said.lines().last().unwrap_or_default().starts_with("step ") {
            assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
        }
        let sent =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        lines.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        assert!(
            said.contains(&format!("stopped by {name} after step")) && said.contains("--resume"),
            "{said}"
        );
    }
    let checkpoints = std::fs::read_dir(stopped.path().join("out/checkpoints")).unwrap();
    assert!(checkpoints.count() > 0 && !stopped.path().join("out/model").exists());
    assert!(command(&path, &[]).status().unwrap().success());
    let adapter = |folder: &Path| std::fs::read(folder.join("out/model/adapter_model.safetensors")).unwrap();
    assert!(adapter(stopped.path()) == adapter(whole.path()), "the run in parts ended with other bits");
}

#[test]
fn a_run_that_is_stopped_before_its_first_step_says_that_nothing_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), EVERY_FIVE);
    struct AtOnce;
    impl Watch for AtOnce {
        fn event(&mut self, _: &Event) -> Result<()> {
            Ok(())
        }
        fn stop(&self) -> Option<Stop> {
            Some(Stop::Interrupt)
        }
    }
    let config = Config::parse(Path::new("run.toml"), &text, &[]).unwrap();
    let context = RunContext { device: cpu(), compile: CompileOptions::default(), peers: &Single };
    let e = run(&config, &context, false, &mut AtOnce).unwrap_err();
    assert!(matches!(e, Error::Stopped { step: 0, saved: None, .. }), "{e}");
    assert!(e.to_string().contains("nothing was trained yet"), "{e}");
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used() {
    let whole = tempfile::tempdir().unwrap();
    let (done, all) = train(&file(whole.path(), EVERY_FIVE), &[], false);
    let done = done.unwrap().pop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), EVERY_FIVE);
    let e = until(&text, 10, false).unwrap_err();
    assert!(matches!(e, Error::Stopped { step: 10, .. }), "{e}");
    let place = |name: &str| folder.path().join("out/checkpoints").join(name);
    // One bit in the middle of the tensors: the file is as long and as well-formed as before.
    let last = place("step-00000010/model.safetensors");
    let mut bytes = std::fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&last, bytes).unwrap();
    let (resumed, events) = train(&text, &[], true);
    let said = notes(&events);
    assert!(said.contains("step 10 cannot be read") && said.contains("damaged-step-00000010"), "{said}");
    assert_eq!(losses(&events), losses(&all)[5..]);
    assert_eq!(weights(&resumed.unwrap()[0].model), weights(&done.model));
    assert!(place("damaged-step-00000010").is_dir());
    // When none is left, nothing is begun anew in silence.
    std::fs::remove_dir_all(folder.path().join("out/model")).unwrap();
    for entry in std::fs::read_dir(place("")).unwrap() {
        let file = entry.unwrap().path().join("training/progress.json");
        std::fs::write(file, "{").unwrap();
    }
    let e = train(&text, &[], true).0.unwrap_err().to_string();
    assert!(
        e.contains("no checkpoint of") && e.contains("progress.json") && e.contains("another `out`"),
        "{e}"
    );
}

#[test]
fn going_on_says_what_changed_what_is_finished_and_what_was_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), EVERY_FIVE).replace("steps = 24", "steps = 6");
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("asked.tmp")).unwrap();
    let (done, events) = train(&text, &[], true);
    let done = done.unwrap();
    let said = notes(&events);
    assert!(said.contains("nothing to resume") && said.contains("removed 1 temporary"), "{said}");
    // A finished run is left as it is.
    let before = std::fs::metadata(out.join("model/model.safetensors")).unwrap().modified().unwrap();
    let (again, events) = train(&text, &[], true);
    assert_eq!(again.unwrap(), done);
    assert!(notes(&events).contains("the run is finished after 6 steps") && losses(&events).is_empty());
    assert_eq!(std::fs::metadata(out.join("model/model.safetensors")).unwrap().modified().unwrap(), before);
    // A longer one goes on, and says what is new.
    let (longer, events) = train(&text, &["steps=8", "optimizer.rate=1e-4"], true);
    assert_eq!((longer.unwrap()[0].steps, losses(&events).len()), (8, 2));
    let said = notes(&events);
    assert!(said.contains("optimizer.rate (0.005 -> 0.0001), steps (6 -> 8)"), "{said}");
    // What would make it another run is refused, all of it at once.
    let e =
        train(&text, &["steps=9", "data.rows=3", "lora={rank=2, layers=['*_proj']}"], true).0.unwrap_err();
    assert!(matches!(e, Error::Config { .. }), "{e}");
    let e = e.to_string();
    assert!(e.contains("data.rows (2 -> 3), lora (not given -> {") && !e.contains("steps"), "{e}");
    // Without a checkpoint there is nothing to go on from.
    std::fs::remove_dir_all(out.join("checkpoints")).unwrap();
    let e = train(&text, &["steps=12"], true).0.unwrap_err().to_string();
    assert!(e.contains("finished after 8 steps and kept no checkpoint"), "{e}");
}

#[test]
fn a_run_says_at_its_start_what_it_is_about_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "samples = 5\n[evaluate]\nshow = 0\n";
    let text = file(folder.path(), rest).replace("steps = 24", "epochs = 1.5");
    let (done, events) = train(&text, &[], false);
    let done = done.unwrap().pop().unwrap();
    // 50 samples once and a half, five a step.
    assert_eq!((done.steps, losses(&events).len()), (15, 15));
    let Some(Event::Begin { outlook, .. }) = events.iter().find(|e| matches!(e, Event::Begin { .. })) else {
        panic!("{events:?}")
    };
    let base = percept::model::checkpoint::Checkpoint::open(super::model("llama")).unwrap();
    let all: usize = base.names().map(|n| base.ty(n).unwrap().numel()).sum();
    assert_eq!((outlook.samples_per_step, outlook.parameters), (5, all as u64));
    assert_eq!(outlook.trained_parameters, outlook.parameters);
    assert_eq!((outlook.corpora[0].samples, outlook.corpora[0].epochs), (50, 1.5));
    // Parameters and two moments, at least.
    assert!(outlook.expected_memory > 12 * outlook.parameters, "{outlook:?}");
    assert_eq!(done.outlook, *outlook);
    let kept = std::fs::read_to_string(folder.path().join("out/summary.json")).unwrap();
    for fact in
        ["\"epochs\": 1.5", "\"samples_per_step\": 5", "\"trained_parameters\"", "\"expected_memory\""]
    {
        assert!(kept.contains(fact), "{kept}");
    }
}
