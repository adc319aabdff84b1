//! The same questions on several devices, and where their answers differ.

use std::path::PathBuf;

use percept::eval::devices::{Differing, differing};
use percept::eval::results::{self, Finished};
use percept::eval::task::Task;
use serde_json::{Map, Value, json};

use super::{Run, tasks};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::table::table;

/// What came of one device.
struct OnDevice {
    id: String,
    finished: Vec<Finished>,
    ran: Value,
}

/// Ask each device in turn.
pub(super) fn run(run: &Run, asked: &[(Task, PathBuf)], devices: &[&str]) -> Result<(), Failure> {
    let mut all: Vec<OnDevice> = Vec::new();
    for id in devices {
        let one = run.on(id);
        let (finished, mut ran) = tasks::on_device(&one, asked)?;
        ran["seed"] = json!(run.seed);
        tasks::write(&one, &finished, &ran)?;
        all.push(OnDevice { id: (*id).to_owned(), finished, ran });
    }
    let mut found: Vec<Differing> = Vec::new();
    for (at, first) in all.iter().enumerate() {
        for second in &all[at + 1..] {
            found.extend(differing((&first.id, &first.finished), (&second.id, &second.finished)));
        }
    }
    let documents: Map<String, Value> =
        all.iter().map(|one| (one.id.clone(), results::document(&one.finished, &one.ran))).collect();
    // The first device's document, and beside it those of all.
    let mut document =
        all.first().map_or(Value::Null, |first| results::document(&first.finished, &first.ran));
    document["devices"] = Value::Object(documents);
    document["differences"] = json!(found);
    if let Some(out) = &run.out {
        write_file(&out.join("results.json"), format!("{document:#}\n").as_bytes())?;
    }
    if run.json {
        println!("{document}");
        return Ok(());
    }
    for one in &all {
        println!("{}", one.id);
        tasks::show(&one.finished);
    }
    let header =
        ["task", "devices", "questions", "answered differently", "better on the first", "on the second"];
    let mut t = table(&header, &[2, 3, 4, 5]);
    for Differing { task, devices, n, doc_ids, better } in &found {
        let ids: Vec<String> = doc_ids.iter().take(8).map(usize::to_string).collect();
        let rest = if doc_ids.len() > ids.len() { ", ..." } else { "" };
        let which = if ids.is_empty() { String::new() } else { format!(": {}{rest}", ids.join(", ")) };
        t.add_row([
            task.clone(),
            devices.join(", "),
            n.to_string(),
            format!("{}{which}", doc_ids.len()),
            better[0].to_string(),
            better[1].to_string(),
        ]);
    }
    println!("{t}");
    Ok(())
}
