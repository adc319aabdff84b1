//! The families' processors beside those of transformers (`goldens/processors.py`), and what they refuse.

use std::collections::BTreeMap;

use percept_modalities::image::Image;
use percept_modalities::video::Clip;
use percept_modalities::{Content, Error, Media, Message, Part, Processor, Result, Values};
use percept_model::processor::{
    Gemma3, Llava, LlavaAnyres, ProcessorFiles, Prompt, QwenVersion, QwenVl, SmolVlm, Tower,
};
use safetensors::SafeTensors;
use serde_json::Value;

const CASES: &str = include_str!("../fixtures/processors.json");
const ARRAYS: &[u8] = include_bytes!("../fixtures/processors.safetensors");
/// Of pixel values and masks every so many are in the goldens.
const EVERY: usize = 61;

fn picture(rgb: &[u8], height: usize, width: usize) -> Image {
    Image { width, height, rgb: rgb.to_vec() }
}

/// The processor of a case, from files as a checkpoint has them.
fn processor(
    case: &Value,
    tokenizer: &Value,
    change: impl Fn(&str, &mut Value),
) -> Result<Box<dyn Processor>> {
    let file = |name: &str| -> Result<Option<Vec<u8>>, Error> {
        Ok(match name {
            "tokenizer.json" => Some(tokenizer.to_string().into_bytes()),
            "chat_template.jinja" => Some(case["template"].as_str().unwrap().into()),
            name => case["files"].get(name).map(|content| {
                let mut content = content.clone();
                change(name, &mut content);
                content.to_string().into_bytes()
            }),
        })
    };
    let files = ProcessorFiles::read::<Error>(file)?;
    let prompt = Prompt::read::<Error>(file)?;
    let tower = || {
        let t = &case["tower"];
        let n = |key: &str| t[key].as_u64().unwrap() as usize;
        Tower {
            patch: n("patch"),
            image: n("image"),
            additional: n("additional"),
            strategy: t["strategy"].as_str().unwrap().into(),
        }
    };
    Ok(match case["kind"].as_str().unwrap() {
        "smolvlm" => Box::new(SmolVlm::new(&files, prompt)?),
        "qwen2_vl" => Box::new(QwenVl::new(QwenVersion::Qwen2, &files, prompt)?),
        "qwen2_5_vl" => Box::new(QwenVl::new(QwenVersion::Qwen2_5, &files, prompt)?),
        "qwen3_vl" => Box::new(QwenVl::new(QwenVersion::Qwen3, &files, prompt)?),
        "llava" => Box::new(Llava::new(&files, tower(), prompt)?),
        "llava_next" => Box::new(LlavaAnyres::next(&files, tower(), prompt)?),
        "llava_onevision" => Box::new(LlavaAnyres::one_vision(&files, tower(), "anyres_max_9", prompt)?),
        "gemma3" => Box::new(Gemma3::new(&files, 256, prompt)?),
        other => panic!("{other}"),
    })
}

/// The conversation and the media of a case.
fn conversation(case: &Value, arrays: &SafeTensors) -> (Vec<Message>, Media) {
    let mut media = Media::default();
    let mut parts = Vec::new();
    for part in case["parts"].as_array().unwrap() {
        let part = part.as_str().unwrap();
        parts.push(match arrays.tensor(part) {
            Ok(t) if part.starts_with("picture ") => {
                media.images.push(picture(t.data(), t.shape()[0], t.shape()[1]));
                Part::Image { path: None }
            }
            Ok(t) => {
                let [h, w] = [t.shape()[1], t.shape()[2]];
                let frames = t.data().chunks_exact(3 * h * w).map(|f| picture(f, h, w)).collect();
                let fps = case["fps"].as_f64().unwrap();
                media.videos.push(Clip::steady(frames, fps));
                Part::Video { path: None }
            }
            Err(_) => Part::Text { text: part.into() },
        });
    }
    (vec![Message::new("user", Content::Parts(parts))], media)
}

fn cases() -> (Value, Vec<Value>) {
    let all: Value = serde_json::from_str(CASES).unwrap();
    (all["tokenizer"].clone(), all["cases"].as_array().unwrap().clone())
}

#[test]
fn inputs_are_those_of_transformers() {
    let arrays = SafeTensors::deserialize(ARRAYS).unwrap();
    let (tokenizer, cases) = cases();
    assert!(cases.len() > 12);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let (messages, media) = conversation(case, &arrays);
        let made = processor(case, &tokenizer, |_, _| {}).unwrap().chat(&messages, &media).unwrap();
        let dims: BTreeMap<String, Vec<usize>> = serde_json::from_value(case["dims"].clone()).unwrap();
        assert_eq!(made.arrays.keys().collect::<Vec<_>>(), dims.keys().collect::<Vec<_>>(), "{name}");
        for (key, dims) in &dims {
            let what = format!("{name} {key}");
            let array = &made.arrays[key];
            assert_eq!(
                (&array.dims, array.dims.iter().product::<usize>()),
                (dims, dims.iter().product()),
                "{what}"
            );
            let golden = arrays.tensor(&what).unwrap();
            match &array.values {
                Values::I64(made) => {
                    let golden =
                        golden.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
                    let every = if key.contains("mask") { EVERY } else { 1 };
                    assert!(golden.eq(made.iter().copied().step_by(every)), "{what}: {made:?}");
                }
                Values::F32(made) => {
                    let golden =
                        golden.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    // The video processors normalize in one step, which rounds otherwise.
                    let off = |(a, b): (&f32, f32)| (a - b).abs() > 1e-6 * (1.0 + b.abs());
                    let wrong = made.iter().step_by(EVERY).zip(golden).filter(|(a, b)| off((a, *b))).count();
                    assert_eq!(wrong, 0, "{what}");
                }
            }
        }
    }
}

fn named(name: &str) -> (Value, Value) {
    let (tokenizer, cases) = cases();
    (tokenizer, cases.into_iter().find(|c| c["name"] == name).unwrap())
}

#[test]
fn media_that_no_placeholder_stands_for_are_refused() {
    let arrays = SafeTensors::deserialize(ARRAYS).unwrap();
    for name in
        ["smolvlm pictures", "qwen2_vl mixed", "llava pictures", "llava_onevision mixed", "gemma3 pictures"]
    {
        let (tokenizer, case) = named(name);
        let (messages, mut media) = conversation(&case, &arrays);
        let p = processor(&case, &tokenizer, |_, _| {}).unwrap();
        media.images.pop();
        let e = p.chat(&messages, &media).unwrap_err().to_string();
        assert!(e.contains("placeholder(s) for") && e.contains("image input(s)"), "{name}: {e}");
    }
    let (tokenizer, case) = named("gemma3 pictures");
    let (messages, mut media) = conversation(&case, &arrays);
    media.videos.push(Clip::steady(Vec::new(), 1.0));
    let e = processor(&case, &tokenizer, |_, _| {}).unwrap().chat(&messages, &media).unwrap_err().to_string();
    assert!(e.contains("takes no videos"), "{e}");
}

#[test]
fn pictures_and_clips_may_share_a_prompt_of_smolvlm() {
    let arrays = SafeTensors::deserialize(ARRAYS).unwrap();
    let (tokenizer, mut case) = named("smolvlm pictures");
    case["parts"] = serde_json::json!(["picture tiny", "clip five", "picture tiny"]);
    let (messages, media) = conversation(&case, &arrays);
    let made = processor(&case, &tokenizer, |_, _| {}).unwrap().chat(&messages, &media).unwrap();
    // A tiny picture grows to 84 pixels: two columns and three rows of tiles, and the whole.
    assert_eq!(made.arrays["pixel_values"].dims, [1, 2 * 10 + 5, 3, 28, 28]);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (name, key, value, expected) in [
        ("qwen2_vl mixed", "patch_size", serde_json::json!(0), "`patch_size` is 0"),
        ("qwen2_vl mixed", "resample", serde_json::json!(9), "`resample` is 9"),
        ("llava pictures", "size", serde_json::json!({"depth": 3}), "`size` is"),
        ("llava pictures", "image_std", serde_json::json!([0, 1, 1]), "`image_std` has a zero"),
        ("llava_next pictures", "image_grid_pinpoints", serde_json::json!([[30, 28]]), "not multiples of 28"),
        ("smolvlm pictures", "max_image_size", serde_json::json!("large"), "`max_image_size`"),
    ] {
        let (tokenizer, case) = named(name);
        let made = processor(&case, &tokenizer, |file, content| {
            if file == "preprocessor_config.json" {
                content[key] = value.clone();
            }
        });
        let e = made.err().unwrap_or_else(|| panic!("{name} {key}")).to_string();
        assert!(e.starts_with("preprocessor_config.json: ") && e.contains(expected), "{e}");
    }
}

#[test]
fn a_picture_of_one_row_is_too_narrow() {
    let (tokenizer, case) = named("qwen2_vl mixed");
    let p = processor(&case, &tokenizer, |_, _| {}).unwrap();
    let messages = vec![Message::new("user", Content::Parts(vec![Part::Image { path: None }]))];
    let media = Media { images: vec![picture(&[0; 3 * 201], 1, 201)], ..Media::default() };
    let e = p.chat(&messages, &media).unwrap_err().to_string();
    assert!(e.contains("201x1 is too narrow"), "{e}");
}
