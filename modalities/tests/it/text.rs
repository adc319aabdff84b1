//! Tokenizers held to llama.cpp and transformers, templates to transformers (`goldens/text.py`).

use percept_modalities::Error;
use percept_modalities::Message;
use percept_modalities::text::jinja::Template;
use percept_modalities::text::{ChatTemplate, GgufVocabulary, TokenKind, Tokenizer, TokenizerSettings};
use serde_json::Value;

fn vocabulary() -> Value {
    serde_json::from_str(include_str!("../fixtures/vocabulary.json")).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn kinds(numbers: &Value) -> Vec<TokenKind> {
    read::<Vec<i64>>(numbers).into_iter().map(TokenKind::from_ggml).collect()
}

fn byte_level(goldens: &Value, pre: &str) -> GgufVocabulary {
    let bpe = &goldens["bpe"];
    GgufVocabulary {
        model: "gpt2".into(),
        pre: pre.into(),
        tokens: read(&bpe["tokens"]),
        kinds: kinds(&bpe["token_types"]),
        merges: read(&bpe["merges"]),
        bos: Some(1),
        eos: Some(2),
        pad: Some(0),
        ..Default::default()
    }
}

fn sentence_piece(goldens: &Value, add_space_prefix: bool) -> GgufVocabulary {
    let spm = &goldens["spm"];
    GgufVocabulary {
        model: "llama".into(),
        tokens: read(&spm["tokens"]),
        scores: read(&spm["scores"]),
        kinds: kinds(&spm["token_types"]),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        add_space_prefix: Some(add_space_prefix),
        ..Default::default()
    }
}

/// Every text's ids, plain and with the special tokens around it; `same` says how a text comes back.
fn check(name: &str, goldens: &Value, ids: &Value, vocabulary: &GgufVocabulary) {
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    for (text, ids) in read::<Vec<String>>(&goldens["texts"]).iter().zip(ids.as_array().unwrap()) {
        let plain: Vec<u32> = read(&ids["plain"]);
        assert_eq!(tokenizer.encode(text, false).unwrap(), plain, "{name}: {text:?}");
        let around: Vec<u32> = read(&ids["around"]);
        assert_eq!(tokenizer.encode(text, true).unwrap(), around, "{name}: {text:?}");
        if vocabulary.model == "gpt2" {
            assert_eq!(&tokenizer.decode(&plain, false).unwrap(), text, "{name}");
        }
        let mut stream = tokenizer.stream(false);
        let mut streamed: String = plain.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed += &stream.finish().unwrap();
        assert_eq!(streamed, tokenizer.decode(&plain, false).unwrap(), "{name}: {text:?}");
    }
}

#[test]
fn byte_level_vocabularies_split_and_merge_like_llama_cpp() {
    let goldens = vocabulary();
    for (pre, ids) in goldens["bpe"]["ids"].as_object().unwrap() {
        check(pre, &goldens, ids, &byte_level(&goldens, pre));
    }
}

#[test]
fn sentence_piece_vocabularies_merge_by_score_like_llama_cpp() {
    let goldens = vocabulary();
    for prefix in [true, false] {
        let ids = &goldens["spm"]["ids"][prefix.to_string()];
        check("spm", &goldens, ids, &sentence_piece(&goldens, prefix));
    }
}

#[test]
fn a_tokenizer_json_does_what_it_does_in_transformers() {
    let goldens = vocabulary();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/llama/model/");
    let file = |name: &str| Ok::<_, Error>(std::fs::read(format!("{folder}{name}")).ok());
    let tokenizer = Tokenizer::find(file).unwrap().unwrap();
    let cases = goldens["json"].as_array().unwrap();
    for (text, case) in read::<Vec<String>>(&goldens["texts"]).iter().zip(cases) {
        let around = tokenizer.encode(text, true).unwrap();
        assert_eq!(tokenizer.encode(text, false).unwrap(), read::<Vec<u32>>(&case["plain"]), "{text:?}");
        assert_eq!(around, read::<Vec<u32>>(&case["around"]), "{text:?}");
        assert_eq!(tokenizer.decode(&around, false).unwrap(), read::<String>(&case["decoded"]));
        assert_eq!(tokenizer.decode(&around, true).unwrap(), read::<String>(&case["skipped"]));
        let padded = tokenizer.encode_to_length(text, 24).unwrap();
        assert_eq!(padded.ids, read::<Vec<u32>>(&case["padded"]["input_ids"]), "{text:?}");
        assert_eq!(padded.attention_mask, read::<Vec<u32>>(&case["padded"]["attention_mask"]));
    }
    assert_eq!(tokenizer.token(tokenizer.pad().unwrap()).as_deref(), Some("<pad>"));
    assert_eq!(tokenizer.id("<|im_start|>").map(|id| tokenizer.token(id)), Some(Some("<|im_start|>".into())));
}

#[test]
fn text_appears_when_its_last_byte_has_come() {
    let tokenizer = Tokenizer::from_gguf(&byte_level(&vocabulary(), "gpt-2")).unwrap();
    let ids = tokenizer.encode("a😀b", false).unwrap();
    let mut stream = tokenizer.stream(true);
    let parts: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(parts, ["a", "", "", "", "😀", "b"]);
    let mut stream = tokenizer.stream(true);
    assert_eq!(stream.push(ids[1]).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
}

#[test]
fn templates_render_like_transformers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/templates/");
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/templates.json")).unwrap();
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let template = ChatTemplate::new(&source, Default::default()).unwrap();
        let variables = case["variables"].as_object().unwrap();
        let made =
            template.render(&case["messages"], case["add_generation_prompt"].as_bool().unwrap(), variables);
        match (made, case.get("text").and_then(Value::as_str)) {
            (Ok(made), Some(text)) if made == text => {}
            (Ok(made), Some(text)) => {
                let lines: Vec<_> = text.lines().zip(made.lines()).filter(|(a, b)| a != b).collect();
                wrong.push(format!("{name}: {lines:#?} in {} and {} bytes", text.len(), made.len()));
            }
            (Err(error), Some(_)) => wrong.push(format!("{name}: {error}")),
            (Err(error), None) => {
                let refusal = case["error"].as_str().unwrap();
                // What a template itself raises is passed on word by word.
                if refusal.starts_with("Conversation") && !error.to_string().contains(refusal) {
                    wrong.push(format!("{name}: {error} for {refusal}"));
                }
            }
            (Ok(_), None) => wrong.push(format!("{name}: rendered although {}", case["error"])),
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_template_reads_special_tokens_and_the_clock() {
    let settings = TokenizerSettings::read(
        Some(br#"{"bos_token": {"content": "<s>"}, "chat_template": [{"name": "rag", "template": "no"},
            {"name": "default", "template": "{{ bos_token }}{{ strftime_now('%Y') | length }}{{ strftime_now('%d %b') }}{{ eos_token }}"}]}"#),
        None,
    )
    .unwrap();
    let others = [("bos_token".to_owned(), "no".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let template = ChatTemplate::from_settings(&settings).unwrap().unwrap().with_tokens(&others.into());
    let text = template.render(&Value::Array(Vec::new()), true, &Default::default()).unwrap();
    assert!(text.starts_with("<s>4") && text.len() == "<s>4".len() + "25 Nov</s>".len(), "{text}");
}

#[test]
fn a_templates_place_among_the_files_is_that_of_transformers() {
    let with = |files: &[(&str, &str)]| {
        let template = ChatTemplate::find(|name| {
            let found = files.iter().find(|(file, _)| *file == name);
            Ok::<_, Error>(found.map(|(_, text)| text.as_bytes().to_vec()))
        });
        template.unwrap().map(|template| template.source().to_owned())
    };
    let config = ("tokenizer_config.json", r#"{"chat_template": "config"}"#);
    let json = ("chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[config]).as_deref(), Some("config"));
    assert_eq!(with(&[config, json]).as_deref(), Some("json"));
    assert_eq!(with(&[config, json, ("chat_template.jinja", "jinja")]).as_deref(), Some("jinja"));
}

/// What transformers 5.24 renders of these files: `tool_use` as soon as tools are given, an empty list among them, and of two
/// templates with one name the last.
#[test]
fn a_template_of_its_own_is_taken_where_there_are_tools() {
    let (plain, tools) = ("D{{ tools is none }}", "T{{ tools | length }}");
    let list = serde_json::json!([{ "name": "default", "template": "first" }, { "name": "default", "template": plain },
        { "name": "tool_use", "template": tools }, { "name": "rag", "template": "no" }]);
    let config = |templates: Value| serde_json::json!({ "chat_template": templates }).to_string();
    let by_name = config(serde_json::json!({ "default": plain, "tool_use": tools }));
    let (list, no) = (config(list), config("no".into()));
    let jinja = "additional_chat_templates/tool_use.jinja";
    for files in [
        vec![("tokenizer_config.json", list.as_str())],
        vec![("tokenizer_config.json", by_name.as_str())],
        vec![("tokenizer_config.json", no.as_str()), ("chat_template.jinja", plain), (jinja, tools)],
    ] {
        let file = |name: &str| {
            let found = files.iter().find(|(file, _)| *file == name);
            Ok::<_, Error>(found.map(|(_, text)| text.as_bytes().to_vec()))
        };
        let template = ChatTemplate::find(file).unwrap().unwrap();
        let rendered = |tools: Value| {
            let variables = [("tools".to_owned(), tools)].into_iter().collect();
            template
                .render(&serde_json::json!([{ "role": "user", "content": "hi" }]), true, &variables)
                .unwrap()
        };
        let all = [Value::Null, serde_json::json!([]), serde_json::json!([{}, {}])].map(rendered);
        assert_eq!(all, ["DTrue", "T0", "T2"], "{files:?}");
    }
}

/// Snippets against Python's Jinja, configured as transformers configures it (`goldens/jinja.py`): the same text, or an error
/// of the same class.
#[test]
fn templates_are_jinja_to_the_letter() {
    let golden: Value = serde_json::from_str(include_str!("../fixtures/jinja.json")).unwrap();
    let variables = golden["variables"].as_object().unwrap();
    let mut others = variables.clone();
    let messages = others.remove("messages").unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 1000);
    assert!(cases.iter().filter(|case| case.get("strict").is_some()).count() > 50);
    let mut wrong = Vec::new();
    let mut compare = |source: &str, made: Result<String, String>, expected: &Value| {
        let fits = match (&made, expected.get("text").and_then(Value::as_str)) {
            (Ok(made), Some(text)) => made == text,
            (Err(error), None) => match expected["error"].as_str().unwrap() {
                "TemplateError" => error.ends_with("boom"),
                class => error.contains(&format!(": {class}: ")) || error.starts_with(&format!("{class}: ")),
            },
            _ => false,
        };
        if !fits {
            let expected = format!("{}{}", expected["text"], expected["error"]);
            wrong.push(format!("{source:?}\n  gives {made:?}\n  not   {expected}"));
        }
    };
    for case in cases {
        let source = case["template"].as_str().unwrap();
        let chat = ChatTemplate::new(source, Default::default())
            .and_then(|template| template.render(&messages, false, &others));
        compare(source, chat.map_err(|error| error.to_string()), case);
        let strict = Template::parse(source).and_then(|template| template.strict().render(variables));
        compare(source, strict.map_err(|error| error.to_string()), case.get("strict").unwrap_or(case));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Templates that would take gigabytes, minutes or the whole stack end in an error, soon.
#[test]
fn hostile_templates_end() {
    let pipes = format!("{{{{ 1{} }}}}", "|abs".repeat(40_000));
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(40_000), ")".repeat(40_000));
    let nots = format!("{{{{ {}1 }}}}", "not ".repeat(40_000));
    let minus = format!("{{{{ {}1 }}}}", "-".repeat(40_000));
    let ifs = "{% if 1 %}".repeat(40_000);
    let lists = format!("{{{{ {} }}}}", "[".repeat(40_000));
    let sums = format!("{{{{ 1{} }}}}", "+1".repeat(40_000));
    let dots = format!("{{{{ a{} }}}}", ".b".repeat(40_000));
    let targets = format!("{{% for {}x in y %}}", "(".repeat(40_000));
    for source in [&pipes, &parentheses, &nots, &minus, &ifs, &lists, &sums, &dots, &targets] {
        assert!(ChatTemplate::new(source, Default::default()).is_err(), "{}", &source[..40]);
    }
    let double = |start: &str, step: &str, end: &str| {
        format!(
            "{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{{{ {end} }}}}"
        )
    };
    let deep = |step: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for k in range(20) %}}{{% for i in range(100000) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{% endfor %}}done"
        )
    };
    let templates = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}".to_owned(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(x) %}{{ f([x, x]) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{{ '%1000000000d'|format(1) }}{{ '%1000000000d'|format(1) }}".to_owned(),
        "{{ '%.1000000000f' % 1 }}".to_owned(),
        "{{ '%*d' % (10**12, 1) }}".to_owned(),
        "{{ '{:1000000000}'.format(1) }}".to_owned(),
        "{{ '{:01000000000,}'.format(1) }}".to_owned(),
        "{{ 'x' * 10**10 }}".to_owned(),
        "{{ [1] * 10**10 }}".to_owned(),
        "{{ 'x'.center(10**10) }}{{ 'x'|center(10**10) }}".to_owned(),
        "{{ 'x'.zfill(10**18) }}".to_owned(),
        "{{ 'a\tb'.expandtabs(10**10) }}".to_owned(),
        "{{ 'a'|indent(10**10, true) }}".to_owned(),
        "{{ [1]|tojson(indent=10**10) }}".to_owned(),
        "{{ [1]|batch(10**10, 'x')|list }}".to_owned(),
        "{{ [1]|slice(10**10)|list }}".to_owned(),
        "{{ 9**9**9 }}".to_owned(),
        "{{ range(10**9) }}".to_owned(),
        "{% set ns = namespace(x=[1,1],y=[1,1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}".to_owned(),
        double("[1]", "ns.x + ns.x", "ns.x|length"),
        double("'x'", "ns.x ~ ns.x", "ns.x|length"),
        double("'x'", "ns.x.replace('x', 'xx')", "1"),
        double("'x'", "ns.x|replace('', ns.x)", "1"),
        double("'x'", "ns.x.join([ns.x, ns.x, ns.x])", "1"),
        double("[1]", "[ns.x, ns.x]", "ns.x"),
        double("[1]", "[ns.x, ns.x]", "ns.x|tojson"),
        double("[1]", "[ns.x, ns.x]", "ns.x|string|length"),
        double("{}", "{'a': ns.x, 'b': ns.x}", "ns.x|pprint"),
        deep("[ns.x]"),
        deep("{'a': ns.x}"),
        deep("namespace(x=ns.x)"),
        deep("ns.x|map('string')"),
        deep("cycler(ns.x)"),
        deep("joiner(ns.x)"),
        "{% set ns = namespace() %}{% for k in range(100) %}{% for i in range(100000) %}{% macro m() %}{{ f }}{% endmacro %}{% set ns.f = m %}{% endfor %}{% endfor %}".to_owned(),
        "{% macro m(f) %}{% macro g() %}{{ f }}{% endmacro %}{% set ns.f = g %}{% endmacro %}{% set ns = namespace(f=1) %}{% for k in range(99) %}{% for i in range(100000) %}{{ m(ns.f) }}{% endfor %}{% endfor %}".to_owned(),
        "{% macro m(f) %}{% for x in [1] %}{% set ns.l = loop %}{% endfor %}{% endmacro %}{% set ns = namespace(l=1) %}{% for k in range(99) %}{% for i in range(100000) %}{{ m(ns.l) }}{% endfor %}{% endfor %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
        "{% set x %}{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}{% endset %}".to_owned(),
        "{{ raise_exception('x' * 10**9) }}".to_owned(),
    ];
    let began = std::time::Instant::now();
    for source in &templates {
        let template = ChatTemplate::new(source, Default::default()).unwrap();
        let began = std::time::Instant::now();
        let made = template.render(&Value::Array(Vec::new()), false, &Default::default());
        assert!(made.is_err(), "{source}: {:?}", made.map(|text| text.len()));
        assert!(began.elapsed().as_secs() < 20, "{source}: {:?}", began.elapsed());
    }
    assert!(began.elapsed().as_secs() < 120);
    // A list is reversed in place of the iterator before it, as in Python, so that nothing nests.
    let flat = ChatTemplate::new(&deep("ns.x|reverse"), Default::default()).unwrap();
    assert_eq!(flat.render(&Value::Array(Vec::new()), false, &Default::default()).unwrap(), "done");
    assert!(ChatTemplate::new("{% if %}", Default::default()).is_err());
    // Tags are found in time that grows with the text, not with its square.
    let tags = "{% generation %}x{% endgeneration %}".repeat(20_000);
    let template = ChatTemplate::new(&tags, Default::default()).unwrap();
    let made = template.render(&Value::Array(Vec::new()), false, &Default::default()).unwrap();
    assert_eq!(made.len(), 20_000);
}

/// Long conversations are within what a rendering may take.
#[test]
fn a_long_conversation_renders() {
    let source = "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = ns.text ~ m.content %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{{ ns.text|length }}";
    let template = ChatTemplate::new(source, Default::default()).unwrap();
    let turn = serde_json::json!({ "role": "user", "content": "word ".repeat(100) });
    let made = template.render(&vec![turn; 2000], false, &Default::default()).unwrap();
    assert!(made.ends_with("1000000"), "{}", &made[made.len() - 20..]);
}

#[test]
fn messages_reach_a_template_as_transformers_hands_them_over() {
    let source = "{% for m in messages %}{{ m|tojson }}{% endfor %}{{ tools }}{{ flag }}";
    let template = ChatTemplate::new(source, Default::default()).unwrap();
    let messages: Vec<Message> = serde_json::from_value(serde_json::json!([
        { "role": "assistant", "content": null, "name": null, "tool_calls": [{ "f": null }], "reasoning": "why" },
        { "role": "tool", "content": "6", "tool_call_id": "1" },
    ]))
    .unwrap();
    let variables = serde_json::json!({ "flag": true });
    let made = template.render(&messages, false, variables.as_object().unwrap()).unwrap();
    let expected = concat!(
        r#"{"thinking": "why", "role": "assistant", "tool_calls": [{"f": null}], "reasoning": "why", "reasoning_content": "why"}"#,
        r#"{"role": "tool", "content": "6", "tool_call_id": "1"}NoneTrue"#
    );
    assert_eq!(made, expected);
}

/// Precompiled normalizers, and the flags of added tokens, against transformers (`goldens/tokenizers.py`).
#[test]
fn tokenizer_files_are_read_as_transformers_reads_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/tokenizers.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for (number, case) in cases.iter().enumerate() {
        let config = case["config"].to_string();
        let settings = TokenizerSettings::read(Some(config.as_bytes()), None).unwrap();
        let tokenizer = Tokenizer::from_json(case["tokenizer"].to_string().as_bytes(), settings).unwrap();
        for text in case["texts"].as_array().unwrap() {
            let words = text[0].as_str().unwrap();
            let ids = tokenizer.encode(words, false).unwrap();
            assert_eq!(serde_json::json!(ids), text[1], "{number}: {words:?}");
            assert_eq!(
                tokenizer.decode(&ids, false).unwrap(),
                text[2].as_str().unwrap(),
                "{number}: {words:?}"
            );
            assert_eq!(
                tokenizer.decode(&ids, true).unwrap(),
                text[3].as_str().unwrap(),
                "{number}: {words:?}"
            );
        }
    }
}

#[test]
fn vocabularies_that_do_not_fit_together_are_refused() {
    let goldens = vocabulary();
    let refusal = |change: &dyn Fn(&mut GgufVocabulary), spm: bool| {
        let mut vocabulary = if spm { sentence_piece(&goldens, true) } else { byte_level(&goldens, "gpt-2") };
        change(&mut vocabulary);
        Tokenizer::from_gguf(&vocabulary).unwrap_err().to_string()
    };
    assert!(refusal(&|v| v.model = "rwkv".into(), false).contains("`rwkv` is not supported"));
    assert!(refusal(&|v| v.pre = "martian".into(), false).contains("known are default, gpt-2"));
    assert!(refusal(&|v| v.tokens.clear(), false).contains("there are none"));
    assert!(refusal(&|v| v.kinds.truncate(5), false).contains("there are 5 for"));
    assert!(refusal(&|v| v.merges.push("lonely".into()), false).contains("lonely"));
    assert!(refusal(&|v| v.merges.push("a zzzzzzz".into()), false).contains("merges"));
    assert!(refusal(&|v| v.bos = Some(1 << 30), false).contains("bos_token_id"));
    assert!(refusal(&|v| v.scores.truncate(3), true).contains("there are 3 for"));
    assert!(refusal(&|v| v.unk = Some(1 << 30), true).contains("unknown_token_id"));
    assert!(Tokenizer::from_json(b"{}", TokenizerSettings::default()).is_err());
    assert!(TokenizerSettings::read(Some(b"[]"), None).is_err());
    let split =
        TokenizerSettings::read(Some(br#"{"split_special_tokens": true}"#), None).unwrap_err().to_string();
    assert!(split.contains("split_special_tokens is true"), "{split}");
    assert!(TokenizerSettings::read(Some(br#"{"split_special_tokens": false}"#), None).is_ok());
}

#[test]
fn tools_that_a_template_does_not_name_are_refused() {
    let variables = |json: Value| json.as_object().unwrap().clone();
    let tools = variables(serde_json::json!({ "tools": [{ "type": "function" }] }));
    let none = variables(serde_json::json!({ "tools": [], "enable_thinking": false }));
    let plain = ChatTemplate::new("{{ messages[0].content }}", Default::default()).unwrap();
    let error = plain.check_tools(&tools).unwrap_err().to_string();
    assert!(error.contains("knows no tools"), "{error}");
    plain.check_tools(&none).unwrap();
    assert!(!plain.reads("enable_thinking"));
    // A name is a whole word of the code, and not of the text around it.
    let code = "thinking {# a.thinking #}{{ m.not_thinking }}{{ m['name'] }}{% if prefix %}{% endif %}";
    let code = ChatTemplate::new(code, Default::default()).unwrap();
    let read = ["thinking", "not_thinking", "name", "prefix", "a"].map(|name| code.reads(name));
    assert_eq!(read, [false, true, true, true, false]);
    let knowing = ChatTemplate::new("{{ tools }}", Default::default()).unwrap();
    knowing.check_tools(&tools).unwrap();
    let other = plain.with_tool_use(Some("{{ functions }}")).unwrap();
    other.check_tools(&tools).unwrap();
}
