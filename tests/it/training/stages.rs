//! Stages that follow each other, and adapters that are gone on from.

use std::path::Path;
use std::sync::Arc;

use percept::hal::CompileOptions;
use percept::model::Weights;
use percept::model::checkpoint::{Checkpoint, convert};
use percept::train::{Config, Event, RunContext, Single, Summary, run};

use super::runs::{Seen, file, losses, train};
use super::{cpu, model};

/// Two stages of adapters; `second` is the table of the second.
fn two(folder: &Path, lora: &str, second: &str) -> String {
    let rest = format!(
        "[optimizer]\nrate = 2e-2\n[evaluate]\nshow = 0\n[lora]\nrank = 4\nlayers = ['*_proj']\nalso = \
         ['model.norm.weight']\n{lora}[[stage]]\n[[stage]]\n{second}"
    );
    file(folder, &rest).replace("steps = 24", "steps = 6")
}

fn loss(summary: &Summary) -> f64 {
    summary.evaluations.last().unwrap().loss
}

fn config_of(adapter: &Path) -> String {
    std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap()
}

/// The held-out loss of an adapter over the first base: a run over it whose one step changes nothing.
fn measured(folder: &Path, adapter: &Path, rank: usize, alpha: f64) -> f64 {
    let rest = format!(
        "[optimizer]\nrate = 1e-12\n[evaluate]\nshow = 0\n[lora]\nrank = {rank}\nalpha = {alpha}\nlayers = ['*_proj']\nalso \
         = ['model.norm.weight']\npath = '{}'\n",
        adapter.display()
    );
    let text = file(folder, &rest).replace("steps = 24", "steps = 1").replace("/out'", "/measured'");
    let (done, _) = train(&text, &[], false);
    let _ = std::fs::remove_dir_all(folder.join("measured"));
    loss(&done.unwrap()[0])
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 2e-5 * b.abs()
}

#[test]
fn a_stage_continues_stacks_or_merges_the_adapter_before_it() {
    for from in ["continue", "stack", "merge"] {
        let folder = tempfile::tempdir().unwrap();
        // A second stage whose rate is next to nothing leaves what the first one learnt.
        let text = two(folder.path(), &format!("from = '{from}'\n"), "steps = 1\noptimizer.rate = 1e-12\n");
        let (done, events) = train(&text, &[], false);
        let done = done.unwrap();
        assert!(done[0].loss < 0.95 * losses(&events)[0], "{from}: nothing was learnt");
        assert!(near(loss(&done[1]), loss(&done[0])), "{from}: {} and {}", loss(&done[0]), loss(&done[1]));
        let config = config_of(&done[1].model);
        let merged = folder.path().join("out/stage-2/merged");
        assert_eq!(merged.exists(), from == "merge", "{from}");
        match from {
            "merge" => assert!(config.contains("stage-2/merged"), "{config}"),
            "stack" => {
                assert!(config.contains("\"r\": 8") && config.contains("\"lora_alpha\": 16.0"), "{config}")
            }
            _ => assert!(config.contains("\"r\": 4") && config.contains("\"lora_alpha\": 8.0"), "{config}"),
        }
        if from != "merge" {
            let (rank, alpha) = if from == "stack" { (8, 16.0) } else { (4, 8.0) };
            let again = measured(folder.path(), &done[1].model, rank, alpha);
            assert!(near(again, loss(&done[1])), "{from}: {again} and {}", loss(&done[1]));
        }
    }
}

/// What was learnt on top of another adapter, over other layers too, is one adapter that opens over the first base.
#[test]
fn a_stack_is_one_adapter_that_holds_both() {
    let folder = tempfile::tempdir().unwrap();
    let second = "checkpoint.every = 2\n[stage.lora]\nrank = 2\nlayers = ['*.q_proj', '*.up_proj']\nfrom = 'stack'\nalso = []\n";
    let text = two(folder.path(), "", second);
    let (done, events) = train(&text, &[], false);
    let done = done.unwrap();
    let again = measured(folder.path(), &done[1].model, 6, 12.0);
    assert!(near(again, loss(&done[1])) && !near(again, loss(&done[0])), "{again} and {}", loss(&done[1]));
    // From the middle on, the same losses again.
    let out = folder.path().join("out/stage-2");
    std::fs::remove_dir_all(out.join("model")).unwrap();
    std::fs::remove_dir_all(out.join("checkpoints/step-00000006")).unwrap();
    let (_, resumed) = train(&text, &[], true);
    assert_eq!(losses(&resumed), losses(&events)[10..]);
}

#[test]
fn every_stage_is_checked_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let cases: [(&str, String, &str); 8] = [
        ("", "[stage.lora]\nrank = 8\n".into(), "its rank is 4 and this run's 8"),
        ("", "[stage.lora]\nalpha = 99.0\n".into(), "its alpha over rank is 2 and this run's 24.75"),
        ("", "[stage.lora]\nlayers = ['*.q_proj']\n".into(), "lora.layers leaves out these of its layers"),
        (
            "",
            "[stage.lora]\nalso = []\n".into(),
            "lora.also leaves out these that it holds whole: model.norm.weight",
        ),
        ("", "[stage.lora]\nlayers = ['*.query']\n".into(), "'*.query' matches nothing"),
        ("", format!("data.train = [{{ path = '{}' }}]\n", missing.display()), "missing"),
        ("", "data.length = 4\n".into(), "tokens, a row has 4"),
        ("from = 'stack'\n", "[[stage]]\n[stage.lora]\nfrom = 'continue'\n".into(), "stage 3: "),
    ];
    for (lora, second, word) in cases {
        let (failed, events) = train(&two(folder.path(), lora, &second), &[], false);
        let e = failed.unwrap_err().to_string();
        let stage = if lora.is_empty() { "stage 2" } else { "stage 3" };
        assert!(e.contains(word) && e.contains(stage), "{second}: {e}");
        assert!(losses(&events).is_empty() && !folder.path().join("out/stage-1/model").exists(), "{second}");
    }
}

#[test]
fn stages_have_names_and_finished_ones_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "[evaluate]\nshow = 0\n[[stage]]\nname = 'hospital'\nsteps = 2\n[[stage]]\nname = 'ultrasound'\nsteps = 3\n";
    let text = file(folder.path(), rest);
    let (done, events) = train(&text, &[], false);
    let done = done.unwrap();
    assert_eq!(done[1].stage, "stage 2 (ultrasound)");
    assert_eq!(done[1].model, folder.path().join("out/ultrasound/model"));
    let begun: Vec<&str> = events
        .iter()
        .filter_map(|e| if let Event::Begin { stage, .. } = e { Some(&stage[..]) } else { None })
        .collect();
    assert_eq!(begun, ["stage 1 (hospital)", "stage 2 (ultrasound)"]);
    std::fs::remove_dir_all(&done[1].model).unwrap();
    let (again, events) = train(&text, &[], true);
    assert_eq!((again.unwrap()[0].clone(), losses(&events).len()), (done[0].clone(), 3));
}

#[test]
fn an_adapter_of_another_form_or_base_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lora = |rest: &str| {
        let rest =
            format!("[evaluate]\nshow = 0\n[lora]\nrank = 4\nlayers = ['*.q_proj', '*.v_proj']\n{rest}");
        file(folder.path(), &rest).replace("steps = 24", "steps = 2")
    };
    train(&lora(""), &[], false).0.unwrap();
    std::fs::rename(at("out/model"), at("adapter")).unwrap();
    std::fs::remove_dir_all(at("out")).unwrap();
    let on = format!("path = '{}'\n", at("adapter").display());
    let e = train(&lora(&on), &["lora.rank=2", "lora.layers=['*_proj']"], false).0.unwrap_err().to_string();
    for part in [
        "its rank is 4 and this run's 2",
        "nothing beside these of this run's layers",
        "and 12 more",
        "stack",
    ] {
        assert!(e.contains(part), "{part}: {e}");
    }
    // Another base with the same shapes.
    let scaled = Weights::new(Arc::new(Checkpoint::open(model("llama")).unwrap()))
        .with_adapter(&at("adapter"))
        .unwrap();
    convert(&scaled.merged().unwrap(), &at("other"), None).unwrap();
    let go = |text: &str, strict: bool| {
        let set = [format!("model.path={}", at("other").display())];
        let config = Config::parse(Path::new("run.toml"), text, &set).unwrap();
        let mut seen = Seen::default();
        let compile = CompileOptions { strict, ..CompileOptions::default() };
        let done = run(&config, &RunContext { device: cpu(), compile, peers: &Single }, false, &mut seen);
        (done, seen.0)
    };
    for (text, word) in [(lora(&on), "continue"), (lora(&format!("{on}from = 'merge'\n")), "merge")] {
        let e = go(&text, true).0.unwrap_err().to_string();
        assert!(
            e.contains("another base") && e.contains("llama/model") && e.contains("/other"),
            "{word}: {e}"
        );
        let (done, events) = go(&text, false);
        let said =
            events.iter().any(|e| matches!(e, Event::Note { text, .. } if text.contains("another base")));
        assert!(said && done.is_ok(), "{word}: {events:?}");
        std::fs::remove_dir_all(at("out")).unwrap();
    }
    // The right base is not mentioned.
    let (done, events) = train(&lora(&on), &[], false);
    let base = events.iter().any(|e| matches!(e, Event::Note { text, .. } if text.contains(" base")));
    assert!(done.is_ok() && !base, "{events:?}");
}

#[test]
fn dropout_is_the_same_every_time_and_evaluation_has_none() {
    let go = |dropout: f64, seed: u64, extra: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let rest = format!(
            "[evaluate]\nshow = 0\n[optimizer]\nrate = 2e-2\n[lora]\nrank = 4\nlayers = ['*_proj']\ndropout = {dropout}\n"
        );
        let text = file(folder.path(), &rest).replace("steps = 24", "steps = 4");
        let seed = format!("seed={seed}");
        let set: Vec<&str> = extra.iter().copied().chain([&seed[..]]).collect();
        let (done, events) = train(&text, &set, false);
        let done = done.unwrap().pop().unwrap();
        assert!(config_of(&done.model).contains(&format!("\"lora_dropout\": {dropout:?}")), "{dropout}");
        (losses(&events), loss(&done))
    };
    let (plain, dropped) = (go(0.0, 0, &[]), go(0.5, 0, &[]));
    assert_eq!(go(0.5, 0, &[]), dropped);
    // B is 0 at first, so nothing is dropped from the first loss; later ones differ.
    assert!(plain.0[0] == dropped.0[0] && plain.0[2] != dropped.0[2], "{plain:?} {dropped:?}");
    // Pieces of a step have bits of their own.
    assert_ne!(go(0.5, 0, &["data.accumulate=2"]).0[2], dropped.0[2]);
    // Over an adapter whose B is not 0, dropout is seen in the first loss, and evaluation has none of it.
    let adapter = super::root().join("tests/training/adapter");
    let on = [
        format!("lora.path={}", adapter.display()),
        "lora.layers=['*.q_proj', '*.down_proj']".into(),
        "lora.also=['*norm.weight']".into(),
        "optimizer.rate=1e-12".into(),
    ];
    let on: Vec<&str> = on.iter().map(String::as_str).collect();
    let (plain, dropped) = (go(0.0, 0, &on), go(0.9, 0, &on));
    assert!(!near(dropped.0[0], plain.0[0]) && near(dropped.1, plain.1), "{plain:?} {dropped:?}");
}
