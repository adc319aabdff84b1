//! Every command that a page or a help text shows is one that the command line takes.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, Parser};

use super::Arguments;

/// The pages whose commands are checked.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = docs.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    all.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|name| root.join(name)));
    all.sort();
    all
}

/// The words of a line as a POSIX shell reads them, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => all.extend(word.take()),
            (None, '#' | '|' | '>' | '<' | ';' | '&') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// The commands in the fenced blocks of a page, without what starts the program.
fn fenced(text: &str) -> Vec<String> {
    let (mut inside, mut all) = (false, Vec::new());
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            let starts = ["percept ", "$ percept ", "target/release/percept ", "cargo run --release -- "];
            let command = starts.iter().find_map(|start| line.strip_prefix(start));
            // Only a shell expands what is left out or stands in brackets.
            all.extend(command.filter(|c| !c.contains('…') && !c.contains("...")).map(str::to_string));
        }
    }
    all
}

fn parse(command: &str) -> Result<(), String> {
    let all = std::iter::once("percept".to_string()).chain(words(command));
    Arguments::try_parse_from(all).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn commands_of_the_pages_are_those_of_the_command_line() {
    let mut count = 0;
    for page in pages() {
        for command in fenced(&std::fs::read_to_string(&page).unwrap()) {
            count += 1;
            parse(&command).unwrap_or_else(|e| panic!("{}: percept {command}\n{e}", page.display()));
        }
    }
    assert!(count > 15, "only {count} commands were found");
}

#[test]
fn examples_of_the_help_texts_are_those_of_the_command_line() {
    fn examples(command: &Command, all: &mut Vec<String>) {
        let help = command.get_after_help().map(|h| h.to_string()).unwrap_or_default();
        all.extend(help.lines().filter_map(|l| l.trim().strip_prefix("percept ").map(str::to_string)));
        command.get_subcommands().for_each(|sub| examples(sub, all));
    }
    let mut all = Vec::new();
    examples(&Arguments::command(), &mut all);
    for command in &all {
        parse(command).unwrap_or_else(|e| panic!("percept {command}\n{e}"));
    }
    assert!(all.len() > 25, "only {} examples were found", all.len());
}

#[test]
fn every_command_that_prints_takes_json() {
    fn without(command: &Command, path: &str, all: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() && command.get_arguments().all(|a| a.get_id() != "json")
        {
            all.push(path.trim().to_string());
        }
        command.get_subcommands().for_each(|sub| without(sub, &path, all));
    }
    let mut all = Vec::new();
    without(&Arguments::command(), "", &mut all);
    // A script for a shell is what it prints.
    assert_eq!(all, ["percept completions"]);
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(words("a 'b c' \"d\" --e=f '' # no"), ["a", "b c", "d", "--e=f", ""]);
    assert_eq!(words("a --json | head"), ["a", "--json"]);
}
