//! Whole runs.

use std::path::{Path, PathBuf};

use percept::data::Sample;
use percept::data::format::webdataset::Writer;
use percept::hal::CompileOptions;
use percept::modalities::{Content, Message};
use percept::train::{Config, Error, Event, OptimizerKind, Result, RunContext, Single, Summary, Watch, run};

use super::{cpu, model};

/// Additions of small numbers, which a small model soon knows by heart.
pub fn sums(path: &Path, n: usize) {
    let mut writer = Writer::create(path).unwrap();
    for i in 0..n {
        let (a, b) = (i % 5, i / 5 % 5);
        let said = |role: &str, text: String| Message::new(role, Content::Text(text));
        let messages = vec![said("user", format!("{a} + {b}?")), said("assistant", format!("{}", a + b))];
        writer.push(&Sample { key: format!("sum{i:04}"), messages, ..Sample::default() }).unwrap();
    }
    writer.finish().unwrap();
}

/// A run's file over sums.
pub fn file(folder: &Path, rest: &str) -> String {
    let shard = folder.join("sums.tar");
    if !shard.exists() {
        sums(&shard, 50);
    }
    format!(
        "out = '{}'\nsteps = 24\nmodel.path = '{}'\n[data]\nlength = 64\nrows = 2\ntrain = [{{ path = '{}' }}]\n\
         held_out = [{{ path = '{}', name = 'sums' }}]\nallow_leakage = ['key', 'text']\n{rest}",
        folder.join("out").display(),
        model("llama").display(),
        shard.display(),
        shard.display()
    )
}

/// Everything that happens.
#[derive(Default)]
pub struct Seen(pub Vec<Event>);

impl Watch for Seen {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.push(event.clone());
        Ok(())
    }
}

pub fn train(text: &str, set: &[&str], resume: bool) -> (Result<Vec<Summary>>, Vec<Event>) {
    let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
    let config = Config::parse(Path::new("run.toml"), text, &set).unwrap();
    let mut seen = Seen::default();
    let context = RunContext { device: cpu(), compile: CompileOptions::default(), peers: &Single };
    (run(&config, &context, resume, &mut seen), seen.0)
}

pub fn weights(model: &Path) -> Vec<u8> {
    std::fs::read(model.join("model.safetensors")).unwrap()
}

pub fn losses(events: &[Event]) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Step(s) = e { Some(s.loss) } else { None }).collect()
}

#[test]
fn a_run_learns_and_its_model_opens() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "[optimizer]\nrate = 1e-2\n[evaluate]\nevery = 12\nshow = 1\n");
    let (done, events) = train(&text, &["steps=60"], false);
    let done = done.unwrap().pop().unwrap();
    let losses = losses(&events);
    assert_eq!((done.steps, losses.len()), (60, 60));
    assert!(done.loss < 0.5 * losses[0], "the loss went from {} to {}", losses[0], done.loss);
    let last = done.evaluations.last().unwrap();
    assert!(last.accuracy > 0.2 && last.token_accuracy > 0.5 && last.said.len() == 1, "{last:?}");
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Evaluate(_))).count(), 5);
    let log = std::fs::read_to_string(folder.path().join("out/log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|l| l.contains("\"event\":\"step\"")).count(), 60);
    let opened = percept::model::checkpoint::Checkpoint::open(done.model).unwrap();
    assert!(opened.file("tokenizer.json").unwrap().is_some());
    // A folder that holds a run is not written over.
    let (again, _) = train(&text, &[], false);
    assert!(again.unwrap_err().to_string().contains("--resume"));
}

/// What an optimizer keeps is saved and read again, whichever of the table it is.
#[test]
fn a_run_goes_on_with_any_optimizer() {
    for kind in OptimizerKind::names() {
        let folder = tempfile::tempdir().unwrap();
        let rest = format!("optimizer.kind = '{kind}'\nevaluate.show = 0\ncheckpoint.every = 2\n");
        let text = file(folder.path(), "").replacen("steps = 24", &format!("steps = 4\n{rest}"), 1);
        let (done, all) = train(&text, &[], false);
        let model = done.unwrap().pop().unwrap().model;
        let expected = weights(&model);
        std::fs::remove_dir_all(&model).unwrap();
        std::fs::remove_dir_all(folder.path().join("out/checkpoints/step-00000004")).unwrap();
        let (again, events) = train(&text, &[], true);
        let again = again.unwrap().pop().unwrap();
        assert_eq!(losses(&events), losses(&all)[2..], "{kind}");
        assert!(weights(&again.model) == expected, "{kind}");
    }
}

#[test]
fn a_run_in_two_parts_ends_with_the_same_bits() {
    let whole = tempfile::tempdir().unwrap();
    let rest = "[optimizer]\nrate = 5e-3\nema = 0.9\n[evaluate]\nshow = 0\n[checkpoint]\nevery = 5\n";
    let (done, all) = train(&file(whole.path(), rest), &[], false);
    let done = done.unwrap().pop().unwrap();
    let parts = tempfile::tempdir().unwrap();
    let text = file(parts.path(), rest);
    // The schedule is of the whole run, so the run is stopped by a watcher rather than by its length.
    struct Stop(usize);
    impl Watch for Stop {
        fn event(&mut self, event: &Event) -> Result<()> {
            match event {
                Event::Step(s) if s.step as usize == self.0 => Err(Error::Setting("stopped".into())),
                _ => Ok(()),
            }
        }
    }
    let config = Config::parse(Path::new("run.toml"), &text, &[]).unwrap();
    let context = RunContext { device: cpu(), compile: CompileOptions::default(), peers: &Single };
    for at in [3, 13] {
        assert!(run(&config, &context, true, &mut Stop(at)).is_err());
    }
    let (resumed, events) = train(&text, &[], true);
    let resumed = resumed.unwrap().pop().unwrap();
    let begun = events.iter().find(|e| matches!(e, Event::Begin { .. }));
    assert!(matches!(begun, Some(Event::Begin { step: 10, .. })), "{begun:?}");
    assert_eq!(losses(&events), losses(&all)[10..]);
    assert_eq!(weights(&resumed.model), weights(&done.model));
    let kept: Vec<PathBuf> =
        std::fs::read_dir(parts.path().join("out/checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let log = std::fs::read_to_string(parts.path().join("out/log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|l| l.contains("\"event\":\"step\"")).count(), 24);
}

/// `percept train` on the cpu as a process of its own.
pub fn command(file: &Path, set: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_percept"));
    command.arg("train").arg(file).args(["--resume", "--device", "cpu"]);
    set.iter().for_each(|s| {
        command.args(["--set", s]);
    });
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    command
}

/// Three moments, or as many as PERCEPT_KILLS says.
#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let rest = "[optimizer]\nrate = 5e-3\n[evaluate]\nevery = 7\nshow = 1\n[checkpoint]\nevery = 2\n";
    let written = |folder: &Path| {
        let path = folder.join("run.toml");
        std::fs::write(&path, file(folder, rest).replace("steps = 24", "steps = 60")).unwrap();
        path
    };
    let whole = tempfile::tempdir().unwrap();
    let at = std::time::Instant::now();
    assert!(command(&written(whole.path()), &[]).status().unwrap().success());
    let seconds = at.elapsed().as_secs_f64();
    let killed = tempfile::tempdir().unwrap();
    let run = written(killed.path());
    let kills = std::env::var("PERCEPT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3u32);
    for i in 0..kills {
        let share = (i.wrapping_mul(2_654_435_761) >> 8) as f64 / f64::from(1 << 24);
        let mut child = command(&run, &[]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds * (0.2 + 0.8 * share) * 0.8));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(command(&run, &[]).status().unwrap().success());
    let model = |folder: &Path| weights(&folder.join("out/model"));
    assert_eq!(model(killed.path()), model(whole.path()));
    let left: Vec<_> = std::fs::read_dir(killed.path().join("out/checkpoints")).unwrap().collect();
    assert!(left.iter().all(|e| e.as_ref().unwrap().path().extension().is_none()), "{left:?}");
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "[schedule]\nkind = 'constant'\n[evaluate]\nshow = 0\n[checkpoint]\nevery = 3\n";
    let run = folder.path().join("run.toml");
    std::fs::write(&run, file(folder.path(), rest)).unwrap();
    assert!(command(&run, &["steps=6"]).status().unwrap().success());
    let full = format!(
        "trap '' XFSZ; ulimit -f 60; exec {} train {} --resume --device cpu --set steps=12",
        env!("CARGO_BIN_EXE_percept"),
        run.display()
    );
    let output = std::process::Command::new("sh").args(["-c", &full]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("step-00000009"), "{said}");
    let names: Vec<String> = std::fs::read_dir(folder.path().join("out/checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains(&"step-00000006".into()) && names.iter().all(|n| !n.contains("tmp")), "{names:?}");
    assert!(command(&run, &["steps=12"]).status().unwrap().success());
}

#[test]
fn a_rate_that_makes_nan_is_stopped_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "[optimizer]\nrate = 1e25\nclip = 0.0\n[evaluate]\nshow = 0\n[checkpoint]\nevery = 1\n";
    let (failed, events) = train(&file(folder.path(), rest), &[], false);
    let e = failed.unwrap_err();
    assert!(matches!(e, Error::NotFinite(_)), "{e}");
    let e = e.to_string();
    assert!(e.contains("at step 2") && e.contains("model.norm"), "{e}");
    assert_eq!(losses(&events).len(), 1);
    assert!(folder.path().join("out/checkpoints/step-00000001/model.safetensors").is_file());
}

#[test]
fn what_cannot_be_trained_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused =
        |rest: &str, set: &[&str]| train(&file(folder.path(), rest), set, false).0.unwrap_err().to_string();
    let e = refused("", &["model.freeze=['model.layer.*']"]);
    assert!(e.contains("'model.layer.*' matches nothing") && e.contains("model.layers"), "{e}");
    let e = refused("[lora]\nrank = 4\nlayers = ['*.query']\n", &[]);
    assert!(e.contains("lora.layers: '*.query' matches nothing"), "{e}");
    let e = refused("", &["model.freeze=['*']"]);
    assert!(e.contains("no parameters to train"), "{e}");
    let e = refused("[[optimizer.group]]\nmatch = ['lm_head.*']\nrate = 0.1\n", &[]);
    assert!(e.contains("optimizer.group.match: 'lm_head.*' matches nothing"), "{e}");
    let e = refused("", &["data.samples=500"]);
    assert!(e.contains("500 samples do not fit 2 rows of 64 tokens"), "{e}");
    let e = refused("", &["optimizer.balance=0.1"]);
    assert!(e.contains("optimizer.balance balances the experts of mixtures"), "{e}");
    let e = refused("", &["steps=0", "epochs=0.2", "schedule.kind=wsd", "schedule.decay=5000"]);
    assert!(e.contains("schedule.decay is 5000") && e.contains("steps: together"), "{e}");
    assert!(!folder.path().join("out/model").exists());
}

/// The model has a context of 4,096 tokens, and the corpus no images. The run ends where its samples do not fit.
#[test]
fn settings_beyond_the_model_and_the_corpus_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "");
    let augmented =
        format!("data.train=[{{ path = '{}', augment = {{}} }}]", folder.path().join("sums.tar").display());
    let (failed, events) = train(&text, &["data.length=4097", "data.samples=1000", &augmented], false);
    assert!(failed.unwrap_err().to_string().contains("1000 samples do not fit"));
    let note = |event: &Event| match event {
        Event::Note { text, .. } => Some(text.clone()),
        _ => None,
    };
    let said: Vec<String> = events.iter().filter_map(note).collect();
    let has = |word: &str| said.iter().any(|text| text.contains(word));
    assert!(has("data.length is 4097, and the model's context holds 4096 tokens"), "{said:?}");
    assert!(has("augment, which changes images, and none of 50 of its 50 samples has one"), "{said:?}");
}

#[test]
fn data_without_answers_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&folder.path().join("sums.tar")).unwrap();
    for i in 0..80 {
        let messages = vec![Message::new("user", Content::Text("why?".into()))];
        writer.push(&Sample { key: format!("q{i}"), messages, ..Sample::default() }).unwrap();
    }
    writer.finish().unwrap();
    let (failed, _) = train(&file(folder.path(), ""), &["data.held_out=[]"], false);
    let e = failed.unwrap_err().to_string();
    assert!(e.contains("no answer tokens"), "{e}");
}

/// A last norm of zeros hides everything before it from the loss.
#[test]
fn parameters_whose_gradients_are_zero_are_named() {
    use percept::graph::{DType, TensorType};
    let folder = tempfile::tempdir().unwrap();
    let base = percept::model::checkpoint::Checkpoint::open(model("llama")).unwrap();
    let zeros = ("model.norm.weight".to_string(), TensorType::new(DType::F32, [32]), vec![0; 128]);
    let blind = base.with_tensors("zeros", [zeros]).unwrap();
    percept::model::checkpoint::convert(&blind, &folder.path().join("blind"), None).unwrap();
    let text = file(folder.path(), "");
    let set = format!("model.path={}", folder.path().join("blind").display());
    let e = train(&text, &[&set], false).0.unwrap_err();
    assert!(matches!(e, Error::NoGradient(_)), "{e}");
    let e = e.to_string();
    assert!(e.contains("model.layers.0.self_attn.q_proj.weight") && !e.contains("model.norm.weight"), "{e}");
}

#[test]
fn a_checkpoint_of_another_shape_or_seed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "[evaluate]\nshow = 0\n[checkpoint]\nevery = 2\n");
    train(&text, &["steps=2"], false).0.unwrap();
    let text = text.replace("steps = 24", "steps = 4");
    let e = train(&text, &["seed=7"], true).0.unwrap_err().to_string();
    assert!(e.contains("seed (0 -> 7)"), "{e}");
    let other = format!("model.path={}", model("qwen3").display());
    let e = train(&text, &[&other], true).0.unwrap_err().to_string();
    assert!(e.contains("of another model") && e.contains("llama") && e.contains("qwen3"), "{e}");
}

#[test]
fn an_adapter_learns_goes_on_and_merges() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "[optimizer]\nrate = 2e-2\n[lora]\nrank = 4\nlayers = ['*_proj']\nalso = ['model.embed_tokens.weight']\n\
                [evaluate]\nshow = 1\n[checkpoint]\nevery = 12\n";
    let text = file(folder.path(), rest);
    let (done, events) = train(&text, &[], false);
    let done = done.unwrap().pop().unwrap();
    let all = losses(&events);
    assert!(done.loss < 0.7 * all[0], "{all:?}");
    let (adapter, out) = (&done.model, folder.path().join("merged"));
    assert!(adapter.join("adapter_config.json").is_file());

    use percept::model::Weights;
    use percept::model::checkpoint::{Checkpoint, convert};
    let base = || std::sync::Arc::new(Checkpoint::open(model("llama")).unwrap());
    let beside = Weights::new(base()).with_adapter(adapter).unwrap();
    let merged = Weights::new(base()).with_adapter(adapter).unwrap().merged().unwrap();
    convert(&merged, &out, None).unwrap();
    let merged = Weights::new(std::sync::Arc::new(Checkpoint::open(&out).unwrap()));
    let logits = |weights: Weights| {
        let percept::model::Model::Causal(model) = percept::model::open_weights(weights).unwrap() else {
            panic!("llama continues text")
        };
        let said = Message::new("user", Content::Text("2 + 2?".into()));
        let inputs = model.processor().chat(&[said], &Default::default()).unwrap();
        let options = percept::infer::SessionOptions::default();
        percept::infer::Session::new(cpu(), model, options).unwrap().prefill(&inputs, 0, 0).unwrap().1
    };
    let (beside, merged) = (logits(beside), logits(merged));
    let size = beside.iter().fold(0f32, |a, v| a.max(v.abs()));
    let off = beside.iter().zip(&merged).fold(0f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(off < 1e-4 * size, "{off} of {size}");

    // From the middle on, the same losses again.
    std::fs::remove_dir_all(folder.path().join("out/checkpoints/step-00000024")).unwrap();
    std::fs::remove_dir_all(folder.path().join("out/model")).unwrap();
    let (_, events) = train(&text, &[], true);
    assert_eq!(losses(&events), all[12..]);
}

#[test]
fn an_adapters_folder_is_a_model_to_begin_with() {
    use percept::model::checkpoint::Checkpoint;
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "[evaluate]\nshow = 0\n");
    let adapter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters/patterns");
    let path = format!("model.path={}", adapter.display());
    train(&text, &[&path, "steps=1"], false).0.unwrap();
    let (begun, base) = (folder.path().join("out/merged"), model("llama"));
    let values = |folder: &std::path::Path, name: &str| {
        Checkpoint::open(folder).unwrap().weight(name).unwrap().bytes().to_vec()
    };
    let (adapted, kept) =
        ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight");
    assert_ne!(values(&begun, adapted), values(&base, adapted));
    assert_eq!(values(&begun, kept), values(&base, kept));
}
