//! Every parity case: what the processor makes of a prompt and its media, the logits, and the greedy continuation are
//! those of Hugging Face transformers. `PERCEPT_PARITY_DIR` names another folder of cases, `PERCEPT_DEVICE` a device.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::devices;
use crate::parity_case::{self, Case, adapters, cases};
use percept::hal::Device;
use percept::infer::{GenerateOptions, Session, SessionOptions};
use percept::modalities::{Media, Message, video};
use percept::model::checkpoint::{Checkpoint, convert};
use percept::model::{Model, Weights};

fn folder() -> PathBuf {
    match std::env::var_os("PERCEPT_PARITY_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"),
    }
}

/// Run every case on a device and fail with the list of those that differ.
fn check_all(device: &Arc<dyn Device>) {
    check_some(device, |_| true);
}

/// The same with the cases whose folders are chosen.
pub fn check_some(device: &Arc<dyn Device>, is_chosen: impl Fn(&Path) -> bool) {
    let folder = folder();
    let mut cases = cases(&folder);
    cases.retain(|case| is_chosen(&case.folder));
    assert!(!cases.is_empty(), "{} holds no such case", folder.display());
    let mut failures = Vec::new();
    for case in &cases {
        match check(case, &case.folder.join("model"), device) {
            Ok(line) => println!("{}: {line}", case.name),
            Err(why) => failures.push(format!("{}: {why}", case.name)),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// What was compared with this model, the case's own or one made of it, or what differs.
fn check(case: &Case, model: &Path, device: &Arc<dyn Device>) -> Result<String, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let checkpoint = Checkpoint::open(model).map_err(|e| text(&e))?;
    match percept::model::open(Arc::new(checkpoint)).map_err(|e| text(&e))? {
        Model::Causal(model) => parity_case::causal::check(case, device, model, usize::MAX),
        Model::Contrastive(model) => parity_case::contrastive::check(case, device, model),
        Model::ImageEncoder(model) => parity_case::images::check(case, device, model),
        Model::TextEncoder(_) => Err("encoders of texts have tests of their own".into()),
        Model::Speech(model) => parity_case::speech::check(case, device, model),
        Model::Frames(model) => parity_case::frames::check(case, device, model),
    }
}

/// Positions in time of a long clip are beyond those of the text behind it, so the answer's own positions tell the
/// releases apart. Tokens of transformers 5.24; behind the greatest position of the prompt, where releases before 5.3
/// begin, the second would be 163.
#[test]
fn an_answer_about_a_long_clip_begins_where_the_release_that_wrote_the_checkpoint_has_it() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let messages = serde_json::json!([{ "role": "user", "content": [
        { "type": "video" }, { "type": "text", "text": "What happens?" },
    ] }]);
    let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
    for (release, expected) in [("5.23.0", [319, 386, 305, 250]), ("5.24.0", [319, 386, 305, 250])] {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(cases.join("qwen2-5-vl-image/model")).unwrap() {
            let file = entry.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let config = folder.path().join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("\"5.23.0\"", &format!("\"{release}\""))).unwrap();

        let Model::Causal(model) =
            percept::model::open(Arc::new(Checkpoint::open(folder.path()).unwrap())).unwrap()
        else {
            panic!("Qwen2.5-VL continues sequences");
        };
        let sampling = model.processor().video_sampling().unwrap();
        let clip = cases.join("media/k24.mkv");
        let clip = video::sample(&clip, &sampling, &video::Limits::default()).unwrap();
        let media = Media { videos: vec![clip], ..Media::default() };
        let inputs = model.processor().chat(&messages, &media).unwrap();
        let device = percept::registry().open("cpu").unwrap();
        let mut session = Session::new(device, model, SessionOptions::default()).unwrap();
        let options = GenerateOptions { max_tokens: Some(4), ..GenerateOptions::default() };
        let said = session.generate(&inputs, &options, &mut |_| {}).unwrap();
        assert_eq!(said.tokens, expected, "as {release} wrote it");
    }
}

/// The logits of a prompt's rows and the greedy continuation, of a model's folder or file.
fn said(model: &Path, case: &Case) -> (Vec<f32>, Vec<i32>) {
    let Model::Causal(model) = percept::model::open(Arc::new(Checkpoint::open(model).unwrap())).unwrap()
    else {
        panic!("{} continues sequences", case.name);
    };
    let inputs = model.processor().chat(&case.messages().unwrap(), &Media::default()).unwrap();
    let device = percept::registry().open("cpu").unwrap();
    let mut session = Session::new(device, model, SessionOptions::default()).unwrap();
    let (_, logits) = session.prefill(&inputs, 0, 0).unwrap();
    let options = GenerateOptions { max_tokens: Some(8), ..GenerateOptions::default() };
    (logits, session.generate(&inputs, &options, &mut |_| {}).unwrap().tokens)
}

#[test]
fn a_gguf_file_says_what_the_folder_says_that_it_was_made_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let llama3 = serde_json::json!({ "rope_parameters": { "rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64 } });
    let changes = [
        ("llama", serde_json::json!({})),
        ("llama", llama3),
        ("llama", serde_json::json!({ "rope_scaling": { "rope_type": "linear", "factor": 4.0 } })),
        ("llama", serde_json::json!({ "model_type": "mistral", "sliding_window": 5 })),
        ("qwen2", serde_json::json!({})),
        ("qwen3", serde_json::json!({})),
        ("gemma2", serde_json::json!({})),
        ("gemma2", serde_json::json!({ "attn_logit_softcapping": null, "query_pre_attn_scalar": 8 })),
        ("gemma3-text", serde_json::json!({ "query_pre_attn_scalar": 11, "final_logit_softcapping": 20.0 })),
    ];
    for case in cases(&folder) {
        for (_, change) in changes.iter().filter(|(name, _)| *name == case.name) {
            let folder = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(case.folder.join("model")).unwrap() {
                let file = entry.unwrap();
                std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
            let config = folder.path().join("config.json");
            let mut own: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
            own.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
            std::fs::write(&config, own.to_string()).unwrap();
            let file = folder.path().join("m.gguf");
            convert(&Checkpoint::open(folder.path()).unwrap(), &file, None).unwrap();
            let ((a, said_a), (b, said_b)) = (said(folder.path(), &case), said(&file, &case));
            let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(a.len() == b.len() && off <= 1e-5, "{} with {change}: off by {off}", case.name);
            assert_eq!(said_a, said_b, "{} with {change}", case.name);
        }
    }
}

/// Every family of pictures that llama.cpp has a projector for, through its pair of files: with all that Percept keeps in
/// them, and with llama.cpp's own keys alone.
#[test]
fn a_pair_of_gguf_files_says_what_the_folder_says_that_it_was_made_of() {
    let device = percept::registry().open("cpu").unwrap();
    // llama.cpp has no keys for how videos are sampled, and none for pictures that are not cut into tiles.
    let pairs = [
        ("qwen2-vl-image", true),
        ("qwen2-vl-video", false),
        ("qwen2-5-vl-image", true),
        ("qwen2-5-vl-video", false),
        ("qwen3-vl-image", true),
        ("qwen3-vl-video", false),
        ("gemma3", true),
        ("smolvlm-image", true),
        ("smolvlm-two-images", false),
        ("llava", true),
    ];
    let mut failures = Vec::new();
    let cases = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"));
    for (name, in_keys) in pairs {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        let made = convert(&Checkpoint::open(case.folder.join("model")).unwrap(), &file, None);
        if let Err(e) = made {
            failures.push(format!("{}: {e}", case.name));
            continue;
        }
        let opened = Checkpoint::open(&file).unwrap();
        assert_eq!(opened.projector(), Some(&*folder.path().join("mmproj-m.gguf")), "{}", case.name);
        if let Err(why) = check(case, &file, &device) {
            failures.push(format!("{}: {why}", case.name));
        }
        // And a folder again.
        let back = folder.path().join("back");
        convert(&opened, &back, None).unwrap();
        if let Err(why) = check(case, &back, &device) {
            failures.push(format!("{} back in a folder: {why}", case.name));
        }
        for name in ["m.gguf", "mmproj-m.gguf"] {
            parity_case::gguf::strip(&folder.path().join(name));
        }
        match check(case, &file, &device) {
            Err(why) if in_keys => failures.push(format!("{} by llama.cpp's keys: {why}", case.name)),
            _ => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_projector_is_given_on_the_command_line() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let folder = tempfile::tempdir().unwrap();
    let [text, beside, given] =
        ["m.gguf", "mmproj-m.gguf", "tower.gguf"].map(|name| folder.path().join(name));
    let output = Command::new(env!("CARGO_BIN_EXE_percept"))
        .arg("convert")
        .args([&parity.join("smolvlm-image/model"), &text])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("mmproj-m.gguf"), "{said}");
    std::fs::rename(&beside, &given).unwrap();
    let inspect = |more: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.args(["inspect", "--json", "--image"]).arg(parity.join("media/a7.png")).arg("--model");
        command.arg(&text).args(more).arg("What is this?").output().unwrap()
    };
    let output = inspect(&[Path::new("--mmproj"), &given]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["media"][0]["grid"], serde_json::json!([3, 4]));
    let alone = inspect(&[]);
    let why = String::from_utf8_lossy(&alone.stderr);
    assert!(!alone.status.success() && why.contains("--mmproj"), "{why}");
}

#[test]
fn whisper_hears_from_a_gguf_file_what_it_hears_from_the_folder() {
    let device = percept::registry().open("cpu").unwrap();
    let cases = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"));
    let case = cases.iter().find(|case| case.name == "whisper").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [file, back] = ["m.gguf", "back"].map(|name| folder.path().join(name));
    convert(&Checkpoint::open(case.folder.join("model")).unwrap(), &file, None).unwrap();
    convert(&Checkpoint::open(&file).unwrap(), &back, None).unwrap();
    for model in [&file, &back] {
        check(case, model, &device).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    }
}

#[test]
fn cases_agree_with_hugging_face() {
    let device = std::env::var("PERCEPT_DEVICE").unwrap_or("cpu".into());
    check_all(&devices::device(&device));
}

#[test]
fn cases_agree_with_hugging_face_on_an_adapter() {
    if let Some(device) = devices::gpu() {
        check_all(&device);
    }
}

/// Runs `check` on every adapter and fails with the list of those that differ.
fn with_every_adapter(check: impl Fn(&adapters::Adapted, &Case, &Arc<dyn Device>) -> Result<String, String>) {
    let device = percept::registry().open("cpu").unwrap();
    let cases = adapters::cases();
    let mut failures = Vec::new();
    for (adapted, case) in &cases {
        match check(adapted, case, &device) {
            Ok(line) => println!("{}: {line}", adapted.name),
            Err(why) => failures.push(format!("{}: {why}", adapted.name)),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} adapters fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn adapters_agree_with_peft() {
    with_every_adapter(|adapted, case, device| adapters::check(case, adapted.weights(case)?, device, true));
}

#[test]
fn merged_adapters_agree_with_peft() {
    with_every_adapter(|adapted, case, device| {
        let merged = adapted.weights(case)?.merged();
        if adapted.name == "lora-bias-none" {
            let why = merged.err().ok_or("a layer without a bias cannot take one")?.to_string();
            return if why.contains("lora_bias") { Ok(why) } else { Err(why) };
        }
        let merged = Weights::new(Arc::new(merged.map_err(|e| e.to_string())?));
        adapters::check(case, merged, device, false)
    });
}

#[test]
fn the_view_of_every_case_names_the_arrays_of_transformers_by_their_hashes() {
    let cases = cases(&folder());
    assert!(!cases.is_empty());
    let (mut failures, mut pixels) = (Vec::new(), [0, 0]);
    for case in &cases {
        match parity_case::view::of_case(case).and_then(|view| parity_case::view::check(case, &view)) {
            Ok([equal, all]) => {
                println!("{}: {equal} of {all} arrays of pixels are equal to the bit", case.name);
                pixels = [pixels[0] + equal, pixels[1] + all];
            }
            Err(why) => failures.push(format!("{}: {why}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Other folders than the repository's own may hold text alone.
    assert!(
        2 * pixels[0] >= pixels[1],
        "{} of {} arrays of pixels are equal to the bit",
        pixels[0],
        pixels[1]
    );
}

#[test]
fn inspect_prints_the_view_and_writes_what_the_model_sees() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let previews = tempfile::tempdir().unwrap();
    let inspect = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.arg("inspect").arg("--model").arg(parity.join("smolvlm-image/model"));
        command.arg("--image").arg(parity.join("media/a7.png")).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = previews.path().to_str().unwrap();
    let text = inspect(&["--json", "--previews", folder, "What is this?"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = cases(&parity).into_iter().find(|c| c.name == "smolvlm-image").unwrap();
    let golden = &case.inputs["pixel_values"];
    let medium = &document["media"][0];
    assert_eq!(
        document["prompt"],
        "<|im_start|>user\n<image>What is this?<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!((&medium["kind"], &medium["grid"]), (&"image".into(), &serde_json::json!([3, 4])));
    assert_eq!(medium["tensors"][0]["shape"], serde_json::json!(golden.dims));
    assert_eq!(medium["tensors"][0]["sha256"], {
        let values = golden.values.iter().map(|&v| v as f32).collect();
        let tensor = percept::infer::view::Tensor::of("", &[], &percept::modalities::Values::F32(values));
        serde_json::json!(tensor.sha256)
    });
    // Every tile as the golden numbers have it, with the mean and the deviation of 0.5 undone.
    let files = medium["previews"].as_array().unwrap();
    assert_eq!(files.len(), golden.dims[1]);
    for (file, tile) in files.iter().zip(golden.values.chunks_exact(3 * 56 * 56)) {
        let image = parity_case::picture(Path::new(file.as_str().unwrap())).unwrap();
        assert_eq!((image.width, image.height), (56, 56));
        for (i, byte) in image.rgb.iter().enumerate() {
            let value = tile[i % 3 * 56 * 56 + i / 3];
            assert_eq!(f64::from(*byte), ((value * 0.5 + 0.5) * 255.0).round());
        }
    }
    let table = inspect(&["What is this?"]);
    assert!(
        table.contains("0 image")
            && table.contains("3×4 tiles")
            && table.contains("sha") | table.contains("SHA")
    );
}

/// A cache of the hub with the tiny Llama of the cases as `tiny/llama`.
#[cfg(unix)]
fn hub_cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--tiny--llama");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::create_dir_all(folder.join("snapshots")).unwrap();
    std::fs::write(folder.join("refs/main"), commit).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama/model");
    std::os::unix::fs::symlink(model, folder.join("snapshots").join(commit)).unwrap();
    cache
}

#[cfg(unix)]
#[test]
fn a_model_is_found_by_its_hub_id_and_an_absent_one_says_what_to_do() {
    let cache = hub_cache();
    let generate = |id: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.env("HF_HUB_CACHE", cache.path()).env("HF_HUB_OFFLINE", "1");
        command.args(["generate", "--device", "cpu", "--model", id, "--max-tokens", "2", "--json", "hello"]);
        command.output().unwrap()
    };
    for id in ["tiny/llama", "tiny/llama@main", "tiny/llama@0123456789abcdef0123456789abcdef01234567"] {
        let output = generate(id);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["tokens"].as_array().unwrap().len(), 2);
    }
    let output = generate("tiny/llama@v2");
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for part in ["HF_HUB_OFFLINE", "percept data pull hf://tiny/llama@v2 --out models", "models/tiny--llama"]
    {
        assert!(why.contains(part), "{why}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama/model");
    let commands: [&[&str]; 6] = [
        &["devices"],
        &["kernel", "list"],
        &["inspect", model.to_str().unwrap(), "--json"],
        &["inspect", "--model", model.to_str().unwrap(), "hello"],
        &["generate", "--device", "cpu", "--model", model.to_str().unwrap(), "--max-tokens", "4", "hello"],
        &["completions", "bash"],
    ];
    for words in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        let child = command.args(words).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(command);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{words:?}: {said}");
    }
}

/// Where there is no desktop, Mesa's layer for it would print "error: XDG_RUNTIME_DIR is invalid or not set" twice.
#[test]
fn a_machine_without_a_desktop_session_is_no_error() {
    for folder in [None, Some("no/absolute/path")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.arg("devices").env_remove("XDG_RUNTIME_DIR").env_remove("NODEVICE_SELECT");
        let output = command.envs(folder.map(|folder| ("XDG_RUNTIME_DIR", folder))).output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{folder:?}");
    }
}

#[test]
fn the_commands_of_the_readme_that_need_no_network_run_as_they_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let offline = readme
        .lines()
        .filter(|l| l.starts_with("percept ") && l.contains("tests/parity/") && !l.contains("openai/"));
    let mut count = 0;
    for line in offline {
        // Words in double quotes are the only ones with spaces.
        let parts = line.split('"').enumerate();
        let words: Vec<&str> = parts
            .flat_map(|(i, part)| if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
            .collect();
        let output =
            Command::new(env!("CARGO_BIN_EXE_percept")).args(&words[1..]).current_dir(root).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn published_checkpoints_answer_as_in_transformers() {
    use crate::parity_case::published::{answer, expected};
    for case in ["gen_suppress", "stale_index", "precompiled"] {
        let tokens = answer(case, None, |_| {}).unwrap().tokens;
        assert_eq!(serde_json::json!(tokens), expected(case), "{case}");
    }
    let crlf = answer("template_crlf", None, |_| {}).unwrap();
    assert_eq!(crlf.prompt_tokens, expected("template_crlf")["prompt_tokens"]);
    for (file, key) in
        [("messages.json", "prompt_tokens"), ("messages_null.json", "messages_null_prompt_tokens")]
    {
        let made = answer("messages_fields", Some(file), |_| {}).unwrap();
        assert_eq!(made.prompt_tokens, expected("messages_fields")[key], "{file}");
    }
    let beyond = answer("id_beyond_vocab", Some("messages.json"), |_| {}).unwrap_err();
    assert!(beyond.contains("<big>") && beyond.contains("401 rows"), "{beyond}");
    let hangs = answer("template_hang", None, |_| {}).unwrap_err();
    assert!(hangs.contains("too much memory"), "{hangs}");
}

#[test]
fn a_stop_text_may_be_a_special_token() {
    use crate::parity_case::published::answer;
    use percept::infer::{Finish, GenerateOptions};
    // The third and last token is <|im_start|>, which is not shown.
    let force = |options: &mut GenerateOptions| {
        options.max_tokens = Some(3);
        options.sampling.forced_last = vec![399];
    };
    let whole = answer("stale_index", None, force).unwrap();
    assert_eq!((whole.finish, whole.tokens[2]), (Finish::Length, 399));
    let stopped = answer("stale_index", None, |options| {
        force(options);
        options.stop = vec!["<|im_start|>".into()];
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.finish, stopped.text), (Finish::Stop, whole.text));
}
