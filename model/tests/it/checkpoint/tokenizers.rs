//! Tokenizers that go with a model into another format.

use percept_modalities::text::Tokenizer;
use percept_model::checkpoint::{Checkpoint, convert};
use percept_model::text;
use serde_json::{Value, json};

use super::{changed, fixture};

/// Texts in which tokenizers differ that look alike.
const AWKWARD: [&str; 9] = [
    "Cafe\u{301} r\u{e9}sume\u{301} \u{212b}ngstro\u{308}m",
    " a leading space, and  two",
    "<|im_start|>user\nhello<|im_end|> <s></s> <s> x",
    "are area  are   bare are<s>are  <|im_end|>  are",
    "\u{1100}\u{1161} \u{fb01}ne 12345 \u{1f600}",
    "tabs\tand\r\nlines\n\n",
    "it's THEY'RE don't",
    "",
    " ",
];

#[test]
fn text_becomes_the_same_tokens_from_a_folder_and_from_the_gguf_file_made_of_it() {
    let as_it_is = |_: &mut Value| {};
    let composed = |t: &mut Value| t["normalizer"] = json!({ "type": "NFC" });
    let lowered = |t: &mut Value| {
        t["normalizer"] =
            json!({ "type": "Sequence", "normalizers": [{ "type": "NFKC" }, { "type": "Lowercase" }] });
    };
    let flagged = |t: &mut Value| {
        let id = t["model"]["vocab"]["are"].as_u64().unwrap();
        let added = t["added_tokens"].as_array_mut().unwrap();
        for token in added.iter_mut() {
            (token["lstrip"], token["rstrip"]) = (json!(true), json!(true));
        }
        added.push(json!({ "id": id, "content": "are", "single_word": true, "lstrip": false, "rstrip": true,
            "normalized": true, "special": false }));
    };
    let metaspace = |t: &mut Value| {
        *t = serde_json::from_slice(&std::fs::read(fixture("metaspace_first.json")).unwrap()).unwrap();
    };
    let prefixed = |t: &mut Value| t["pre_tokenizer"]["add_prefix_space"] = json!(true);
    let changes: [(&str, &dyn Fn(&mut Value)); 6] = [
        ("as it is", &as_it_is),
        ("composed", &composed),
        ("lowered", &lowered),
        ("flagged", &flagged),
        ("metaspace", &metaspace),
        ("prefixed", &prefixed),
    ];
    for case in ["llama", "qwen2", "qwen3", "gemma3-text"] {
        for (name, change) in changes {
            let folder = changed(case, &json!({}), change);
            let from = Checkpoint::open(folder.path()).unwrap();
            let file = folder.path().join("m.gguf");
            let done = convert(&from, &file, None).unwrap();
            let to = Checkpoint::open(&file).unwrap();
            let again = folder.path().join("again");
            convert(&to, &again, None).unwrap();
            let a = text::tokenizer(&from).unwrap();
            for to in [to, Checkpoint::open(&again).unwrap()] {
                let b = text::tokenizer(&to).unwrap();
                for text in AWKWARD {
                    for special in [false, true] {
                        let ids = a.encode(text, special).unwrap();
                        assert_eq!(ids, b.encode(text, special).unwrap(), "{case}, {name}: {text:?}");
                        assert_eq!(
                            a.decode(&ids, special).unwrap(),
                            b.decode(&ids, special).unwrap(),
                            "{case}"
                        );
                    }
                }
                assert_eq!(text::ends(&from, &a).unwrap(), text::ends(&to, &b).unwrap(), "{case}, {name}");
                assert_eq!(a.settings().tokens, b.settings().tokens, "{case}, {name}");
                let template = |c: &Checkpoint| c.file("chat_template.jinja").unwrap();
                assert_eq!(template(&from), template(&to), "{case}, {name}");
            }
            // What llama.cpp reads of the file does not say all of it, and that is told.
            let told = done.notes.iter().any(|note| note.contains("llama.cpp"));
            assert_eq!(told, name != "as it is", "{case}, {name}: {:?}", done.notes);
        }
    }
}

/// Files that others publish hold no tokenizer.json, and their tokenizers composed what llama.cpp does not.
#[test]
fn the_vocabulary_of_a_published_qwen_file_composes_text_first() {
    let qwen = |t: &mut Value| {
        let split = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        t["normalizer"] = json!({ "type": "NFC" });
        t["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        ] });
    };
    let folder = changed("qwen2", &json!({}), qwen);
    let from = Checkpoint::open(folder.path()).unwrap();
    let file = folder.path().join("m.gguf");
    convert(&from, &file, None).unwrap();
    let vocabulary = Checkpoint::open(&file).unwrap().vocabulary().unwrap().unwrap();
    assert_eq!(vocabulary.pre, "qwen2");
    let (a, b) = (text::tokenizer(&from).unwrap(), Tokenizer::from_gguf(&vocabulary).unwrap());
    for text in AWKWARD {
        assert_eq!(a.encode(text, false).unwrap(), b.encode(text, false).unwrap(), "{text:?}");
    }
    let ids = |text: &str| b.encode(text, false).unwrap();
    assert_eq!(ids("e\u{301}"), ids("\u{e9}"));
}

/// transformers takes the template `tool_use` where a conversation offers tools; llama.cpp's key for it holds it.
#[test]
fn a_template_for_tools_goes_to_gguf_and_back() {
    let folder = changed("llama", &json!({}), |_| {});
    let (plain, tools) = ("D{{ tools is none }}", "T{{ tools | length }}");
    std::fs::write(folder.path().join("chat_template.jinja"), plain).unwrap();
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    std::fs::write(folder.path().join("additional_chat_templates/tool_use.jinja"), tools).unwrap();
    let from = Checkpoint::open(folder.path()).unwrap();
    let (file, again) = (folder.path().join("m.gguf"), folder.path().join("again"));
    convert(&from, &file, None).unwrap();
    convert(&Checkpoint::open(&file).unwrap(), &again, None).unwrap();
    for path in [folder.path(), &file, &again] {
        let checkpoint = Checkpoint::open(path).unwrap();
        let template = text::template(&checkpoint, &text::tokenizer(&checkpoint).unwrap()).unwrap().unwrap();
        let rendered = |tools: Value| {
            let variables = [("tools".to_owned(), tools)].into_iter().collect();
            template.render(&json!([{ "role": "user", "content": "hi" }]), true, &variables).unwrap()
        };
        let said = [Value::Null, json!([{}, {}])].map(rendered);
        assert_eq!(said, ["DTrue", "T2"], "{}", path.display());
    }
}

#[test]
fn the_end_of_an_answer_is_ids_or_an_error_that_names_the_key() {
    let ends = |generation: &str| {
        let folder = changed("llama", &json!({}), |_| {});
        std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        text::ends(&checkpoint, &text::tokenizer(&checkpoint).unwrap()).map_err(|error| error.to_string())
    };
    for damaged in ["", "{\"eos_token_id\": 2", "eos_token_id = 2"] {
        let why = ends(damaged).unwrap_err();
        assert!(why.contains("generation_config.json") && why.contains("JSON"), "{why}");
    }
    for (given, expected) in [
        (json!(2), Some(vec![2])),
        (json!([2, 5]), Some(vec![2, 5])),
        (json!("</s>"), None),
        (json!([2, "x"]), None),
        (json!(2.5), None),
        (json!(true), None),
    ] {
        let ends = ends(&json!({ "eos_token_id": given }).to_string());
        match expected {
            Some(ids) => assert_eq!(ends.unwrap(), ids),
            None => {
                let why = ends.unwrap_err();
                assert!(why.contains("generation_config.json") && why.contains("eos_token_id"), "{why}");
            }
        }
    }
}
