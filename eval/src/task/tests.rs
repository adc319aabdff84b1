//! What a task's file may say, and what is said of one that is wrong.

use super::*;

fn parse(text: &str) -> String {
    Task::parse(Path::new("t.toml"), text).err().map_or_else(|| "fine".into(), |e| e.to_string())
}

#[test]
fn all_built_in_tasks_and_the_example_are_well_formed() {
    for name in names() {
        let task = Task::find(name).unwrap();
        assert_eq!(task.name, name);
        assert!(!task.about.is_empty(), "{name}");
        // What is made here is published nowhere.
        assert_eq!(task.hub.is_empty(), name == "emoji_world", "{name}");
    }
    assert_eq!(parse(EXAMPLE), "fine");
}

#[test]
fn what_is_wrong_is_named_with_what_is_near() {
    let fine = source("mmstar").unwrap();
    for (from, to, expected) in [
        (
            "metric = \"choice\"",
            "metric = \"choise\"",
            "the evaluation has no metric 'choise'; did you mean 'choice'?",
        ),
        ("max_tokens", "max_token", "t.toml:13: [ask] has no key 'max_token'; did you mean 'max_tokens'?"),
        ("max_tokens = ", "max_tokens = 0 # ", "[ask] max_tokens: it is 0"),
        ("about", "abaut", "did you mean 'about'?"),
        ("[score]", "[scores]", "has no key 'scores'; did you mean 'score'?"),
        ("{{ question.strip()", "{{ question.strip(", "[ask] prompt"),
        ("letters = 4", "letters = 4\nwhole = 2.0", "'whole' is not read by the metric 'choice'"),
        ("rules = \"ranked\"", "rules = \"rank\"", "unknown variant `rank`"),
        ("rules = \"ranked\"", "yes = \"first\"", "'yes' is not read by the metric 'choice'"),
        (
            "image = \"image\"",
            "classes = \"names.txt\"",
            "[ask] classes: the metric 'zero-shot' alone reads it",
        ),
        ("[ask]", "[data.join]\nfiles = \"*\"\nkey = \"id\"\n[ask]", "missing field `on`"),
    ] {
        assert!(fine.contains(from), "{from}");
        let said = parse(&fine.replace(from, to));
        assert!(said.contains(expected), "{said}");
    }
    let near = Task::find("mmstr").unwrap_err().to_string();
    assert!(near.contains("did you mean 'mmstar'?"), "{near}");
}

#[test]
fn the_page_of_benchmarks_lists_every_task() {
    let page = include_str!("../../../docs/benchmarks.md");
    // The table of tasks alone has a row for each name.
    let is_row = |line: &&str| {
        let ends = line.contains("huggingface.co/datasets/") || line.contains("[made here]");
        line.starts_with("| `") && ends
    };
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    let expected: Vec<String> = names()
        .map(|name| {
            let Task { about, hub, score, .. } = Task::find(name).unwrap();
            let published = match hub.as_str() {
                "" => "[made here](data.md)".to_owned(),
                hub => format!("[{hub}](https://huggingface.co/datasets/{hub})"),
            };
            format!("| `{name}` | {about} | `{}` | {published} |", score.metric)
        })
        .collect();
    assert_eq!(rows, expected);
}
