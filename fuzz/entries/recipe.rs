//! A recipe: its settings, its stages, and the rows that it reads.

use std::fs;

use percept_data::{BuildOptions, Recipe};

/// The bytes are a recipe. It is made ready in a folder with a few tables, unless it could name files outside.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let Ok(recipe) = Recipe::parse(&folder.path().join("recipe.toml"), &text) else { return };
    let _ = (recipe.group(), recipe.splits());
    if ["/", "\\", ".."].iter().any(|way_out| text.contains(way_out)) {
        return;
    }
    let tables = [
        (
            "rows.jsonl",
            "{\"id\": \"a\", \"caption\": \"one two three\", \"patient\": 7}\n{\"id\": \"b\"}\nnone\n",
        ),
        ("rows.json", r#"[{"id": "a", "conversations": [{"from": "human", "value": "<image>x"}]}, 5]"#),
        ("rows.csv", "id,text,image\na,\"one, two\",gone.png\nb\n"),
    ];
    for (name, content) in tables {
        fs::write(folder.path().join(name), content).expect("there is room for temporary files");
    }
    let Ok(corpus) = recipe.corpus(&BuildOptions::default()) else { return };
    for draw in corpus.draws {
        let _ = draw.make();
    }
}
