use std::path::Path;

use super::*;

fn fault(text: &str) -> String {
    Recipe::parse(Path::new("corpus/recipe.toml"), text).unwrap_err().to_string()
}

#[test]
fn a_recipe_is_read() {
    let text = r#"
        [[read]]
        path = ["a.jsonl", "b/*.parquet"]
        image = "picture"
        [[stage]]
        run = "filter-size"
        min_width = 64
        [[stage]]
        run = "deduplicate-captions"
        [write]
        format = "parquet"
    "#;
    let recipe = Recipe::parse(Path::new("corpus/birds.toml"), text).unwrap();
    assert_eq!(recipe.name, "birds");
    assert_eq!(recipe.reads[0].path, ["a.jsonl", "b/*.parquet"]);
    assert_eq!(recipe.reads[0].image, ["picture"]);
    let names: Vec<&str> = recipe.stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["filter-size", "deduplicate-captions"]);
    assert_eq!(recipe.write.format, crate::format::ShardFormat::Parquet);
    assert_eq!(recipe.folder, Path::new("corpus"));
}

#[test]
fn a_misspelt_word_is_named_with_its_line_and_the_nearest_known_one() {
    let with = |tail: &str| format!("[[read]]\npath = \"a.jsonl\"\n{tail}");
    let cases = [
        (
            with("[[stage]]\nrun = \"filter-size\"\nmin_widht = 3"),
            "corpus/recipe.toml:5: stage filter-size has no key 'min_widht'; did you mean 'min_width'?",
        ),
        (
            with("[[stage]]\nrun = \"filter-sizes\""),
            "corpus/recipe.toml:4: a recipe has no stage 'filter-sizes'; did you mean 'filter-size'?",
        ),
        (
            with("[write]\nfromat = \"tar\""),
            "corpus/recipe.toml:4: [write] has no key 'fromat'; did you mean 'format'?",
        ),
        (
            with("[wirte]\nformat = \"tar\""),
            "corpus/recipe.toml:3: a recipe has no key 'wirte'; did you mean 'write'?",
        ),
        (
            "[[read]]\npahts = \"a\"".into(),
            "corpus/recipe.toml:2: [[read]] has no key 'pahts'; did you mean 'path'?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(&text), expected);
    }
    assert!(
        fault(&with("[write]\nzzzzzzzz = 1"))
            .contains("the known ones are format, shard_bytes, shard_samples")
    );
    let wrong = fault(&with("[[stage]]\nrun = \"filter-size\"\nmin_width = \"wide\""));
    assert!(wrong.starts_with("corpus/recipe.toml:5: stage filter-size: invalid type"), "{wrong}");
    assert!(fault(&with("[write]\nformat = \"webdatset\"")).contains("recipe.toml:4"));
    assert!(fault("[[read]]\npath = 3").contains("recipe.toml:2"));
    assert!(fault("name = \"x\"").contains("nothing is read"));
    assert!(fault("[read]\npath = \"x\"").contains("[[read]]"));
    assert!(fault("[[stage]]\nmin_width = 3\n[[read]]\npath = \"x\"").contains("needs `run`"));
    assert!(fault("[[read]\n").contains("recipe.toml:1"));
}

/// The guide names every stage, and in the stage's own section every key.
#[test]
fn the_guide_names_every_stage_and_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/data.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let section = |title: &str| {
        let start =
            guide.find(&format!("\n### `{title}`\n")).unwrap_or_else(|| panic!("no section on {title}"));
        let rest = &guide[start + 4..];
        rest[..rest.find("\n#").unwrap_or(rest.len())].to_owned()
    };
    let tables = [
        ("read", keys::keys_of::<crate::format::ReadSettings>()),
        ("write", keys::keys_of::<crate::format::WriteSettings>()),
    ];
    let stages = stage::KINDS.iter().map(|kind| (kind.name, (kind.keys)()));
    for (name, keys) in tables.into_iter().chain(stages) {
        let section = section(name);
        for key in keys {
            assert!(section.contains(&format!("`{key}`")), "the guide does not explain {name}.{key}");
        }
    }
    for key in keys::keys_of::<Top>() {
        assert!(guide.contains(&format!("`{key}`")), "the guide does not explain {key}");
    }
}
