//! Tasks: benchmarks, and those of one's own.

use std::path::{Path, PathBuf};

use clap::Args;
use percept::eval::explain::explain;
use percept::eval::metric::interval::Bootstrap;
use percept::eval::remote::run_remote;
use percept::eval::results::{self, Finished};
use percept::eval::run::{self, Options};
use percept::eval::task::{By, ClassesOf, Question, Task, file_hash, names};
use percept::hal::Device;
use percept::infer::peak_memory;
use serde_json::{Value, json};

use super::answering::Answering;
use super::energy::Meter;
use super::server::{self, Server};
use super::spread::Rank;
use super::{Run, progress, side_by_side, spread};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::model::hub::find_model;
use crate::cli::table::table;

#[derive(Args)]
pub struct List {
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(self) -> Result<(), Failure> {
        let tasks = names().map(Task::find).collect::<Result<Vec<_>, _>>()?;
        if self.json {
            let entry = |task: &Task| json!({"name": task.name, "about": task.about, "hub": task.hub, "metric": task.score.metric});
            println!("{}", json!(tasks.iter().map(entry).collect::<Vec<_>>()));
            return Ok(());
        }
        let mut t = table(&["task", "metric", "published as", "what it asks"], &[]);
        for task in &tasks {
            t.add_row([&task.name, &task.score.metric, &task.hub, &task.about]);
        }
        println!("{t}");
        Ok(())
    }
}

pub(super) fn run(run: &Run) -> Result<(), Failure> {
    // All data are looked for before a model is loaded.
    let tasks = match &run.classes {
        Some(classes) => corpora(run, classes)?,
        None => run.tasks.iter().map(|name| found(run, name)).collect::<Result<_, _>>()?,
    };
    make_folder(run)?;
    let rank = Rank::of_environment();
    if let Some(address) = server::address(&run.causal.loading.model) {
        if run.spread || rank.is_some() {
            let why = "a server is asked by one process, with as many questions at a time as --batch says; leave out --spread and mpirun";
            return Err(Failure::Usage(why.into()));
        }
        return on_server(run, tasks, address);
    }
    if run.served.is_some() {
        return Err(Failure::Usage(
            "--served is the name of a model on a server; give its address to --model".into(),
        ));
    }
    let devices = run.devices();
    if let Some(rank) = rank {
        if run.shard.is_some() {
            let why = "the questions are shared out among the processes that were started together; leave out --shard";
            return Err(Failure::Usage(why.into()));
        }
        return match spread::ranks(run, &tasks, rank)? {
            Some((finished, ran)) => tell(run, &finished, ran),
            None => Ok(()),
        };
    }
    match &devices[..] {
        several if run.spread && !several.is_empty() => {
            let (finished, ran) = spread::devices(run, &tasks, several)?;
            tell(run, &finished, ran)
        }
        [] | [_] => {
            let (finished, ran) = on_device(run, &tasks)?;
            tell(run, &finished, ran)
        }
        several => side_by_side::run(run, &tasks, several),
    }
}

/// A task by its name or file, and the folder of its data.
fn found(run: &Run, name: &Path) -> Result<(Task, PathBuf), Failure> {
    let mut task = Task::find(&name.to_string_lossy())?;
    task.compat = run.compat.unwrap_or(task.compat);
    let folder = run.data.join(&task.name);
    task.files(&folder)?;
    Ok((task, folder))
}

/// The tasks of corpora whose answers are classes.
fn corpora(run: &Run, classes: &[String]) -> Result<Vec<(Task, PathBuf)>, Failure> {
    let by = if run.by_likelihood { By::Likelihood } else { By::Generation };
    let how = ClassesOf {
        classes: classes.to_vec(),
        group: run.group.clone(),
        categories: run.categories.clone(),
        by,
    };
    let mut tasks: Vec<(Task, PathBuf)> = Vec::new();
    for path in &run.tasks {
        let one = Task::of_corpus(path, &how)?;
        if let Some((other, _)) = tasks.iter().find(|(task, _)| task.name == one.0.name) {
            return Err(Failure::Usage(format!(
                "two of the corpora are called {}, as their files of results would be; evaluate them one after the other",
                other.name
            )));
        }
        tasks.push(one);
    }
    Ok(tasks)
}

fn make_folder(run: &Run) -> Result<(), Failure> {
    match &run.out {
        Some(out) => {
            std::fs::create_dir_all(out).map_err(|source| Failure::File { path: out.clone(), source })
        }
        None => Ok(()),
    }
}

/// What comes of tasks on one device, and what ran.
pub(super) fn on_device(run: &Run, tasks: &[(Task, PathBuf)]) -> Result<(Vec<Finished>, Value), Failure> {
    make_folder(run)?;
    let meter = Meter::start();
    let mut answering = open(run, tasks)?;
    let ran = ran(run, answering.device(), &[])?;
    let (finished, mut ran) = ask(run, tasks, &mut answering, ran)?;
    answering.report_fallbacks();
    ran["peak_memory_bytes"] = json!(peak_memory(answering.device()));
    ran["energy"] = meter.stop();
    Ok((finished, ran))
}

/// The model of a run on its device.
pub(super) fn open(run: &Run, tasks: &[(Task, PathBuf)]) -> Result<Answering, Failure> {
    let mut answering = Answering::open(&run.causal, tasks, !run.batch_variant, run.batch)?;
    if run.held() > 0 && answering.session().is_none() {
        return Err(Failure::Usage(
            "--agreement and --explain hold the tokens of answers to the cpu, and this model gives none; \
             `percept device diff` holds its operations to the cpu"
                .into(),
        ));
    }
    Ok(answering)
}

/// What comes of tasks on a model, and what ran.
pub(super) fn ask(
    run: &Run,
    tasks: &[(Task, PathBuf)],
    answering: &mut Answering,
    ran: Value,
) -> Result<(Vec<Finished>, Value), Failure> {
    let options = options(run, ran.clone());
    let mut finished = Vec::new();
    for (task, folder) in tasks {
        let bar = progress(None);
        bar.set_message(task.name.clone());
        let outcome = answering.run(task, folder, &options, &mut |_| bar.inc(1));
        bar.finish_and_clear();
        let outcome = outcome?;
        let (mut agreement, mut explanation) = (None, None);
        if let (true, Some(session)) = (run.held() > 0, answering.session()) {
            let mut reference = run.causal.session_on("cpu", run.causal.model()?)?;
            let held = run::agreement(session, &mut reference, &outcome.kept)?;
            if run.explain {
                let host = percept::registry().open("cpu")?;
                explanation = explain(session, &mut reference, &host, &outcome.kept, &held)?;
            }
            agreement = Some(held);
        }
        if let (Some(out), Some(first)) =
            (&run.out, explanation.as_ref().and_then(|explanation| explanation.first.as_ref()))
        {
            let path = out.join(format!("{}.explain.graph", task.name));
            write_file(&path, first.graph.as_bytes())?;
            eprintln!("wrote {}", path.display());
        }
        finished.push(Finished {
            task: task.clone(),
            folder: folder.clone(),
            outcome,
            agreement,
            explanation,
        });
    }
    Ok((finished, ran))
}

/// The same questions, put to a server.
fn on_server(run: &Run, tasks: Vec<(Task, PathBuf)>, address: &str) -> Result<(), Failure> {
    if run.held() > 0 {
        return Err(Failure::Usage(
            "--agreement and --explain hold a device to the cpu, and a server tells no likelihoods".into(),
        ));
    }
    if run.batch_variant {
        return Err(Failure::Usage(
            "--batch-variant is for a device; a server answers as it was started, see `percept serve --batch-variant`"
                .into(),
        ));
    }
    let server = Server::open(address, run.served.as_deref())?;
    let ran = json!({"model": server.model, "device": address, "device_name": address});
    let options = options(run, ran.clone());
    let mut finished = Vec::new();
    for (task, folder) in tasks {
        let bar = progress(None);
        bar.set_message(task.name.clone());
        let ask = |question: &Question| server.ask(&task, question);
        let outcome = run_remote(&task, &folder, &options, &ask, &mut |_| bar.inc(1));
        bar.finish_and_clear();
        finished.push(Finished { outcome: outcome?, folder, agreement: None, explanation: None, task });
    }
    tell(run, &finished, ran)
}

pub(super) fn options(run: &Run, ran: Value) -> Options {
    Options {
        batch: run.batch,
        limit: run.limit,
        shard: run.shard.unwrap_or((0, 1)),
        bootstrap: Bootstrap { seed: run.seed, ..Bootstrap::default() },
        out: run.out.clone(),
        ran,
        keep: run.held(),
    }
}

/// Write and print what came of it.
fn tell(run: &Run, finished: &[Finished], mut ran: Value) -> Result<(), Failure> {
    for Finished { task, outcome, .. } in finished {
        let mut failed = outcome.asked.iter().filter_map(|asked| asked.line.answer.failed.as_ref());
        if let Some(why) = failed.next() {
            let (count, all) = (failed.count() + 1, outcome.asked.len());
            eprintln!(
                "warning: {}: {count} of {all} questions could not be asked and count as wrong; the first: {why}",
                task.name
            );
        }
    }
    ran["seed"] = json!(run.seed);
    write(run, finished, &ran)?;
    if run.json {
        println!("{}", results::document(finished, &ran));
        return Ok(());
    }
    show(finished);
    Ok(())
}

/// Write the files of a run, where it has a folder.
pub(super) fn write(run: &Run, finished: &[Finished], ran: &Value) -> Result<(), Failure> {
    if let Some(out) = &run.out {
        let mut written = results::write(out, finished, ran, &results::now())?;
        let report = out.join("report.html");
        write_file(&report, percept::eval::report::page(finished, ran)?.as_bytes())?;
        written.push(report);
        written.iter().for_each(|path| eprintln!("wrote {}", path.display()));
    }
    Ok(())
}

/// What decides the answers, beside the task and its data. Where several devices share the questions, they are what ran.
pub(super) fn ran(run: &Run, device: &dyn Device, devices: &[&str]) -> Result<Value, Failure> {
    let loading = &run.causal.loading;
    let info = device.info();
    let located = percept::model::locate(&find_model(&loading.model, loading.revision.as_deref())?)?;
    let adapters = loading.adapter.iter().map(|adapter| {
        Ok::<_, Failure>(
            json!({"path": adapter.path, "weight": adapter.weight, "files": hashes(&adapter.path)?}),
        )
    });
    let mut ran = json!({
        "model": loading.model,
        "model_files": hashes(&located.base)?,
        "adapters": adapters.collect::<Result<Vec<_>, _>>()?,
        "dtype": loading.dtype.map(|dtype| dtype.to_string()),
        "cache": run.causal.cache.to_string(),
        "int8": run.causal.int8,
        "device": if devices.len() > 1 { devices.join(",") } else { info.id.clone() },
        "device_name": info.name,
        "driver": info.driver,
    });
    if run.batch_variant {
        // Answers may depend on their company, and so on how many there are.
        ran["batch_variant"] = json!(true);
        ran["batch"] = json!(run.batch);
    }
    Ok(ran)
}

/// The hashes of a model's files, or those of the files in its folder.
fn hashes(path: &Path) -> Result<Vec<Value>, Failure> {
    if path.is_file() {
        return Ok(vec![json!(file_hash(path)?)]);
    }
    let fault = |source| Failure::File { path: path.to_path_buf(), source };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(fault)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files.iter().map(|path| Ok(json!(file_hash(path)?))).collect()
}

pub(super) fn show(finished: &[Finished]) {
    let header = ["task", "score", "value", "95 % interval", "questions", "unparsed", "failed"];
    let mut t = table(&header, &[2, 3, 4, 5, 6]);
    for Finished { task, outcome, .. } in finished {
        let scores = &outcome.scores;
        for name in task.scores().into_iter().chain(["ece".to_owned()]) {
            let Some(found) = scores.metrics.get(&name) else { continue };
            t.add_row([
                task.name.clone(),
                name,
                format!("{:.4}", found.value),
                format!("{:.4} to {:.4}", found.low, found.high),
                scores.n.to_string(),
                scores.unparsed.to_string(),
                scores.failed.to_string(),
            ]);
        }
    }
    println!("{t}");
    for Finished { task, outcome, agreement, explanation, .. } in finished {
        if !outcome.scores.classes.is_empty() {
            let header = ["class", "samples", "precision", "recall, sensitivity", "specificity", "F1"];
            let mut t = table(&header, &[1, 2, 3, 4, 5]);
            for class in &outcome.scores.classes {
                let number = |value: f64| format!("{value:.4}");
                t.add_row([
                    class.class.clone(),
                    class.support.to_string(),
                    number(class.precision),
                    number(class.sensitivity),
                    number(class.specificity),
                    number(class.f1),
                ]);
            }
            println!("\n{}\n{t}", task.name);
        }
        if let Some(held) = agreement {
            println!(
                "{}: {} and the cpu expect the same token in {:.2} % of {} tokens; divergence {:.2e} nats",
                task.name,
                outcome.manifest["device"].as_str().unwrap_or_default(),
                100.0 * held.top1,
                held.tokens,
                held.kl
            );
        }
        if let Some(explanation) = explanation {
            println!("{}: {explanation}", task.name);
        }
    }
}
