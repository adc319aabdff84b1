//! Conversations keep what their files say beside the turns, and rows without a conversation are told of.

use super::*;

/// Eight by eight red pixels, PNG.
const RED: &str = "data:image/png;base64,\
    iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP8z4AdMOEQH6QSAM1BAQ/oQeJvAAAAAElFTkSuQmCC";

fn built(name: &str, text: &str) -> (Vec<Sample>, Manifest, Vec<Rejected>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    run(folder.path(), &format!("[[read]]\npath = \"{name}\""))
}

fn variables(sample: &Sample) -> serde_json::Value {
    sample.variables().unwrap().into()
}

#[test]
fn what_share_gpt_says_beside_its_turns_is_kept() {
    let asked = r#"{"from": "human", "value": "Q"}"#;
    let row = |rest: &str| {
        format!(r#"{{"conversations": [{asked}, {{"from": "gpt", "value": "A", "weight": 0}}]{rest}}}"#)
    };
    let told =
        format!(r#"{{"conversations": [{{"from": "system", "value": "S"}}, {asked}], "system": "SYS"}}"#);
    let rows = [row(r#", "system": "SYS""#), row(r#", "system": """#), told.replace("SYS", "S"), told];
    let (samples, _, rejects) = built("talk.json", &format!("[{}]", rows.join(",")));
    let roles: Vec<Vec<String>> =
        samples.iter().map(|s| s.messages.iter().map(|m| m.role.clone()).collect()).collect();
    assert_eq!(
        roles,
        [vec!["system", "user", "assistant"], vec!["user", "assistant"], vec!["system", "user"]]
    );
    assert_eq!(turns(&samples[0])[0], turn("system", &["SYS"]));
    assert!(!samples[0].messages[2].is_learnt().unwrap(), "the weight of 0 is lost");
    assert!(samples.iter().all(|sample| !sample.meta.contains_key("system")));
    assert_eq!(rejects.len(), 1);
    assert!(rejects[0].detail.contains("different things"), "{}", rejects[0].detail);
}

#[test]
fn tools_of_a_row_are_what_the_template_reads() {
    let talk = r#""messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]"#;
    let rows = [
        format!(
            r#"{{{talk}, "tools": [{{"type": "function"}}], "chat_template_kwargs": {{"enable_thinking": false}}}}"#
        ),
        format!(r#"{{{talk}, "tools": "[{{\"type\": \"function\"}}]"}}"#),
        format!(r#"{{{talk}, "tools": ["hammer"]}}"#),
        format!(r#"{{{talk}, "tools": []}}"#),
        format!(r#"{{{talk}, "tools": "[oops"}}"#),
        format!(r#"{{{talk}, "chat_template_kwargs": {{"messages": []}}}}"#),
    ];
    let (samples, ..) = built("talk.jsonl", &rows.join("\n"));
    let tools = serde_json::json!([{ "type": "function" }]);
    assert_eq!(variables(&samples[0]), serde_json::json!({ "enable_thinking": false, "tools": tools }));
    assert_eq!(variables(&samples[1]), serde_json::json!({ "tools": tools }));
    assert_eq!(variables(&samples[2]), serde_json::json!({}));
    assert_eq!(variables(&samples[3]), serde_json::json!({}));
    for (sample, what) in samples[4..].iter().zip(["no JSON", "'messages'"]) {
        let error = sample.variables().unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(&sample.key), "{error}");
    }
}

#[test]
fn a_turn_that_calls_tools_need_not_say_anything() {
    let turns = r#"[{"role": "user", "content": "Q"}, {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "6"}, {"role": "assistant", "content": "A"}, {"role": "user"}]"#;
    let (samples, _, rejects) = built("talk.json", &format!(r#"[{{"messages": {turns}}}]"#));
    assert!(samples.is_empty() && rejects[0].detail.contains("neither role and content"), "{rejects:?}");
    let turns = turns.replace(r#", {"role": "user"}]"#, "]");
    let (samples, _, rejects) = built("talk.json", &format!(r#"[{{"messages": {turns}}}]"#));
    assert!(rejects.is_empty(), "{rejects:?}");
    let called = &samples[0].messages[1];
    assert_eq!((&called.content, called.fields.contains_key("tool_calls")), (&Content::Nothing, true));
}

#[test]
fn media_in_the_turns_themselves_are_read() {
    let row = |url: &str| {
        let asked = format!(
            r#"[{{"type": "image_url", "image_url": {{"url": "{url}"}}}}, {{"type": "text", "text": "Q"}}]"#
        );
        format!(
            r#"{{"messages": [{{"role": "user", "content": {asked}}}, {{"role": "assistant", "content": "A"}}]}}"#
        )
    };
    let rows = [row(RED), row("data:image/png;base64,????"), row("data:text/plain;base64,QQ==")];
    let (samples, _, rejects) = built("talk.jsonl", &rows.join("\n"));
    assert_eq!((samples.len(), samples[0].media[0].extension.as_str()), (1, "png"));
    assert_eq!(turns(&samples[0])[0], turn("user", &["[image]", "Q"]));
    let reasons: Vec<&str> = rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["malformed", "unknown-format"]);
}

#[test]
fn rows_without_a_known_column_are_told_of() {
    let (samples, manifest, _) = built("a.csv", "text^image\nhello^a.png\n");
    assert_eq!(samples.len(), 1);
    assert_eq!(counted(&manifest, "metadata alone ('text^image')").len(), 1, "{:?}", manifest.left_out);
    let (_, manifest, _) = built("a.jsonl", "{\"text\": null}\n{\"text\": \"A\"}\n");
    assert_eq!(counted(&manifest, "holds nothing at all")[0].1, 1);
    assert_eq!(counted(&manifest, "metadata alone").len(), 0);
}

#[test]
fn a_column_is_one_thing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "{\"a\": \"b\"}\n").unwrap();
    for (read, both) in [
        ("key = \"a\"\ntext = \"a\"", "key = \"a\" and text = \"a\""),
        ("image = [\"a\", \"a\"]", "image = \"a\" and image = \"a\""),
    ] {
        let error = refusal(folder.path(), &format!("path = \"a.jsonl\"\n{read}"));
        assert!(error.contains(both), "{error}");
    }
}
