//! `cargo xtask bench`: Percept on fixed settings, alone or taking turns with a peer.

mod control;
mod record;
mod settings;
mod turns;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::command::{Error, Line};
use crate::peers::{Peer, PeerKind};
use control::Control;
use record::Record;
use settings::{Row, Setting, rows};
use turns::{Turns, aligned, cells, document, heading};

/// What to measure, and how often.
#[derive(Args)]
pub struct Options {
    /// Measure PyTorch, llama.cpp, faster-whisper, sentence-transformers, Pillow and PyAV on the CPU and Burn on the GPU too, in
    /// turns with Percept, and print ratios.
    #[arg(long)]
    peers: bool,
    /// How many turns each side takes on a row; the medians' median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Only rows whose name contains this, as in the table's first two columns ("softmax", "cpu").
    #[arg(long)]
    filter: Option<String>,
    /// A Python that has the peers' packages; without it a virtual environment is made.
    #[arg(long, visible_alias = "torch-python")]
    python: Option<PathBuf>,
    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Add what was found to this file, one line of JSON a run.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print the rows that changed by more than noise since the last run in such a file.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Put the table, with the machine and the versions, between the two marks of this page.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// Runs every row and prints the table.
pub fn run(root: &Path, options: &Options) -> Result<(), Error> {
    Line::of("cargo build --release --locked --package percept").run(root, |_| {})?;
    let program = root.join("target/release").join(format!("percept{}", std::env::consts::EXE_SUFFIX));
    let wanted = |row: &Row| {
        let name = format!("{} {}", row.setting.name(), row.device);
        let measurable = options.peers || !row.setting.needs_peer();
        measurable && options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    };
    let rows: Vec<Row> = rows().into_iter().filter(wanted).collect();
    let mut peers = Vec::new();
    if options.peers {
        for kind in PeerKind::ALL {
            if rows.iter().any(|row| row.peer == Some(kind)) {
                peers.push(Peer::start(kind, root, options.python.as_deref())?);
            }
        }
        for peer in &peers {
            eprintln!("{}", peer.about);
        }
    }
    let (mut found, mut failures, mut bandwidth) = (Vec::new(), Vec::new(), None);
    let mut control = Control::new();
    let start = Instant::now();
    for (i, row) in rows.iter().enumerate() {
        let (name, spent) = (row.setting.name(), start.elapsed().as_secs());
        eprintln!("row {} of {}, after {spent} s: {name} on {}", i + 1, rows.len(), row.device);
        let peer = peers.iter_mut().find(|peer| Some(peer.kind) == row.peer);
        match measure(&program, root, row, peer, options.rounds) {
            Ok((ours, theirs)) => {
                if matches!(row.setting, Setting::Op { op: "sum", .. }) {
                    bandwidth = ours.rate.iter().chain(&theirs.rate).copied().reduce(f64::max);
                }
                let mut row = document(row, &ours, &theirs, bandwidth);
                row["control_ms"] = json!(control.look());
                found.push(row);
            }
            Err(why) => failures.push(format!("{} on {}: {why}", row.setting.name(), row.device)),
        }
    }
    let noisy = control.mark(&mut found);
    let record = Record::new(peers.iter().map(|peer| peer.about.clone()).collect(), found);
    if options.json {
        println!("{}", record.document());
    } else {
        let lines = record.rows().iter().map(cells);
        print!("\n{}", aligned(&std::iter::once(heading()).chain(lines).collect::<Vec<_>>()));
    }
    if noisy > 0 {
        eprintln!(
            "{noisy} of {} rows were timed while the machine was busy with something else: run them again",
            record.rows().len()
        );
    }
    for failure in &failures {
        eprintln!("not measured: {failure}");
    }
    if let Some(file) = &options.against {
        eprint!("{}", record.against(file)?);
    }
    if let Some(file) = &options.history {
        record.append(file)?;
    }
    if let Some(file) = &options.document {
        record.write_table(file)?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// Takes turns on a row, Percept first. Where the peer needs seconds for a call, one turn is enough.
fn measure(
    program: &Path,
    root: &Path,
    row: &Row,
    mut peer: Option<&mut Peer>,
    rounds: u16,
) -> Result<(Turns, Turns), String> {
    let (mut ours, mut theirs) = (Turns::default(), Turns::default());
    for _ in 0..rounds {
        ours.add(&percept(program, root, row, peer.is_some())?, row.setting.time())?;
        if let Some(peer) = peer.as_mut() {
            let answer = peer.ask(&row.setting.request()).map_err(|error| error.to_string())?;
            theirs.add(&answer, row.setting.time()).map_err(|why| format!("{}: {why}", peer.kind.name()))?;
        }
        if theirs.median_ms.iter().any(|&ms| ms > 1000.0) {
            break;
        }
    }
    Ok((ours, theirs))
}

/// Runs `percept bench` on a row and reads its answer; beside a peer, on the peer's adapter.
fn percept(program: &Path, root: &Path, row: &Row, with_peer: bool) -> Result<Value, String> {
    let mut line = Line(vec![program.display().to_string(), "bench".to_owned()]);
    line.0.extend(Line::of(&row.setting.arguments()).0);
    line.0.extend(Line::of(&format!("{} --json", row.setting.effort())).0);
    if !matches!(row.setting, Setting::Preprocess | Setting::DecodeVideo) {
        line.0.extend(["--device".to_owned(), row.device.to_owned()]);
    }
    line.0.extend(row.setting.files().into_iter().flat_map(|(option, file)| [option.to_owned(), file]));
    let mut command = line.command(root);
    if with_peer {
        crate::setup::pin_lavapipe(&mut command);
    }
    let output = command.output().map_err(|source| line.cannot_start(source).to_string())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let reason = message.lines().next().unwrap_or("it did not say why");
        return Err(format!("`{line}` failed with {}: {reason}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("`{line}` printed no JSON: {error}"))
}
