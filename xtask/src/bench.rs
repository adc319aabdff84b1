//! `cargo xtask bench`: Percept on fixed settings, alone or taking turns with a peer.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::command::{Error, Line};
use crate::peers::{MEDIA, Peer, PeerKind};

/// What to measure, and how often.
#[derive(Args)]
pub struct Options {
    /// Measure PyTorch, llama.cpp, faster-whisper, Pillow and PyAV on the CPU and Burn on the GPU too, in
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
}

/// One setting, the device that Percept runs it on, the peer, and what to reach.
struct Row {
    device: &'static str,
    peer: Option<PeerKind>,
    bar: Bar,
    setting: Setting,
}

/// What a row should reach.
#[derive(Clone, Copy)]
enum Bar {
    /// This many times the peer's speed.
    Ratio(f64),
    /// This share of the memory bandwidth that the sums reached.
    Bandwidth(f64),
    /// Nothing: the row measures the machine.
    None,
}

/// What `percept bench` is to time.
enum Setting {
    /// A square matrix product.
    Matmul { n: u64, dtype: &'static str },
    /// One row times a square weight, which is larger than caches are.
    MatrixVector { n: u64, dtype: &'static str },
    /// One op, or the chain of ten, on f32.
    Op { op: &'static str, shape: &'static [u64] },
    /// SmolLM2-135M-Instruct reads a prompt, in the file's Q4_1 or in f32.
    Prefill { tokens: u64, dtype: Option<&'static str> },
    /// The same model writes 64 tokens after `depth`; with `int8` it rounds what it multiplies and caches
    /// f16, as llama.cpp always does.
    Decode { depth: u64, dtype: Option<&'static str>, int8: bool },
    /// A decoder of 6 layers, 384 wide, takes a step of training on 8 rows of 256 tokens.
    TrainStep { dtype: &'static str },
    /// SigLIP-base/16-224 embeds 8 images.
    Embed,
    /// Whisper tiny.en transcribes one window of audio, or encodes it only.
    Transcribe { encoder: bool },
    /// 16 copies of a JPEG of 1000 by 750 are decoded, resized to 224 and normalized.
    Preprocess,
    /// A video in H.264, 640 by 360, is decoded to RGB.
    DecodeVideo,
}

/// Tokens that a row of decoding writes.
const WRITTEN: u64 = 64;

/// Images that SigLIP embeds at a time, and copies of a JPEG that are prepared.
const EMBEDDED: u64 = 8;
const COPIES: u64 = 16;
/// Seconds of audio in the file of five sentences.
const SPEECH: f64 = 24.7;

/// The language model of the rows, which `cargo xtask assets` fetches.
fn language_model() -> String {
    let folder = crate::assets::folder().unwrap_or_default();
    folder.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").display().to_string()
}

/// The Whisper of the rows, likewise.
fn speech_model() -> String {
    crate::assets::folder().unwrap_or_default().join("whisper-tiny.en").display().to_string()
}

impl Setting {
    /// The words after `percept bench`.
    fn arguments(&self) -> String {
        match self {
            Setting::Matmul { n, dtype } => format!("matmul --m {n} --n {n} --k {n} --dtype {dtype}"),
            Setting::MatrixVector { n, dtype } => format!("matmul --m 1 --n {n} --k {n} --dtype {dtype}"),
            Setting::Op { op, shape } => format!("op {op} --shape {} --dtype f32", by(shape)),
            Setting::Prefill { tokens, dtype } => format!("prefill --tokens {tokens}{}", load(*dtype)),
            Setting::Decode { depth, dtype, int8 } => {
                let int8 = if *int8 { " --int8 --cache f16" } else { "" };
                format!("decode --depth {depth} --tokens {WRITTEN}{}{int8}", load(*dtype))
            }
            Setting::TrainStep { dtype } => format!("train-step --dtype {dtype}"),
            Setting::Embed => format!("embed --batch {EMBEDDED}"),
            Setting::Transcribe { .. } => format!("transcribe --seconds {SPEECH}"),
            Setting::Preprocess => format!("preprocess --batch {COPIES}"),
            Setting::DecodeVideo => "preprocess".to_owned(),
        }
    }

    /// The options that name files, and the files.
    fn files(&self) -> Vec<(&'static str, String)> {
        let media = |name: &str| format!("{MEDIA}/{name}");
        match self {
            Setting::Prefill { .. } | Setting::Decode { .. } => vec![("--model", language_model())],
            Setting::Embed => vec![("--model", media("siglip"))],
            Setting::Transcribe { .. } => {
                vec![("--model", speech_model()), ("--file", media("speech.wav"))]
            }
            Setting::Preprocess => vec![("--image", media("photo.jpg"))],
            Setting::DecodeVideo => vec![("--video", media("film.mp4"))],
            _ => Vec::new(),
        }
    }

    /// Whether a file is one that the peer makes.
    fn needs_peer(&self) -> bool {
        self.files().iter().any(|(_, file)| file.starts_with(MEDIA))
    }

    /// The number of an answer that is the row's time.
    fn time(&self) -> &'static str {
        if matches!(self, Setting::Transcribe { encoder: true }) { "encoder_median_ms" } else { "median_ms" }
    }

    /// How long Percept repeats a row: seconds for operations, runs for models.
    fn effort(&self) -> &'static str {
        match self {
            Setting::Matmul { .. } | Setting::MatrixVector { .. } | Setting::Op { .. } => "--seconds 0.5",
            _ => "--runs 3",
        }
    }

    /// The row as a peer reads it.
    fn request(&self) -> Value {
        match self {
            Setting::Matmul { n, dtype } => {
                json!({"bench": "matmul", "settings": {"m": n, "n": n, "k": n, "dtype": dtype}})
            }
            Setting::MatrixVector { n, dtype } => {
                json!({"bench": "matmul", "settings": {"m": 1, "n": n, "k": n, "dtype": dtype}})
            }
            Setting::Op { op, shape } => {
                json!({"bench": "op", "settings": {"op": op, "shape": shape, "dtype": "f32"}})
            }
            Setting::Prefill { tokens, .. } => {
                json!({"bench": "prefill", "settings": {"model": language_model(), "tokens": tokens}})
            }
            Setting::Decode { depth, .. } => {
                let settings = json!({"model": language_model(), "depth": depth, "tokens": WRITTEN});
                json!({"bench": "decode", "settings": settings})
            }
            Setting::TrainStep { dtype } => json!({"bench": "train-step", "settings": {"dtype": dtype}}),
            Setting::Embed => json!({"bench": "embed", "settings": {"batch": EMBEDDED}}),
            Setting::Transcribe { .. } => {
                json!({"bench": "transcribe", "settings": {"model": speech_model(), "seconds": SPEECH}})
            }
            Setting::Preprocess => json!({"bench": "preprocess", "settings": {"batch": COPIES}}),
            Setting::DecodeVideo => json!({"bench": "preprocess", "settings": {}}),
        }
    }

    fn name(&self) -> String {
        match self {
            Setting::Matmul { n, dtype } => format!("matmul {n} {dtype}"),
            Setting::MatrixVector { n, dtype } => format!("matrix-vector {n} {dtype}"),
            Setting::Op { op, shape } => format!("{op} {} f32", by(shape)),
            Setting::Prefill { tokens, dtype } => format!("prefill {tokens} {}", dtype.unwrap_or("q4_1")),
            Setting::Decode { depth, dtype, int8 } => {
                let int8 = if *int8 { " int8" } else { "" };
                format!("decode at {depth} {}{int8}", dtype.unwrap_or("q4_1"))
            }
            Setting::TrainStep { dtype } => format!("train-step {dtype}"),
            Setting::Embed => "siglip-base 8 images".to_owned(),
            Setting::Transcribe { encoder: false } => "whisper tiny.en".to_owned(),
            Setting::Transcribe { encoder: true } => "whisper tiny.en encoder".to_owned(),
            Setting::Preprocess => "jpeg 1000x750 to 224".to_owned(),
            Setting::DecodeVideo => "h264 640x360 to rgb".to_owned(),
        }
    }
}

fn load(dtype: Option<&str>) -> String {
    dtype.map_or_else(String::new, |dtype| format!(" --dtype {dtype}"))
}

fn by(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x")
}

/// The rows: what is compared, and what it should reach. The sum measures the memory's bandwidth for
/// the matrix-vector rows, so it comes first.
fn rows() -> Vec<Row> {
    let cpu =
        |setting, bar| Row { device: "cpu", peer: Some(PeerKind::Torch), bar: Bar::Ratio(bar), setting };
    let gpu =
        |setting, bar| Row { device: "wgpu:0", peer: Some(PeerKind::Burn), bar: Bar::Ratio(bar), setting };
    let wide = |op| Setting::Op { op, shape: &[4096, 1024] };
    let heads = |op| Setting::Op { op, shape: &[1, 8, 512, 64] };
    let sum = Setting::Op { op: "sum", shape: &[8192, 8192] };
    let mut rows = vec![Row { bar: Bar::None, ..cpu(sum, 0.0) }];
    rows.extend(["q4_1", "q8_0", "q4_k"].map(|dtype| Row {
        device: "cpu",
        peer: None,
        bar: Bar::Bandwidth(0.6),
        setting: Setting::MatrixVector { n: 16384, dtype },
    }));
    for (dtype, bar, sizes) in
        [("f32", 0.95, &[512, 1024, 2048][..]), ("bf16", 1.5, &[512, 1024, 2048]), ("f16", 0.9, &[512, 1024])]
    {
        rows.extend(sizes.iter().map(|&n| cpu(Setting::Matmul { n, dtype }, bar)));
    }
    rows.extend([
        cpu(wide("softmax"), 1.2),
        cpu(wide("layer_norm"), 0.95),
        cpu(wide("rms_norm"), 2.5),
        cpu(wide("gelu_erf"), 0.95),
        cpu(wide("gelu_tanh"), 3.0),
        cpu(wide("chain10"), 4.0),
        cpu(heads("attention"), 1.0),
        cpu(heads("attention_causal"), 1.0),
    ]);
    let llama = |setting, bar| Row { peer: Some(PeerKind::LlamaCpp), ..cpu(setting, bar) };
    rows.extend([
        llama(Setting::Prefill { tokens: 512, dtype: None }, 2.0),
        llama(Setting::Decode { depth: 0, dtype: None, int8: false }, 1.5),
        llama(Setting::Decode { depth: 512, dtype: None, int8: false }, 1.5),
        llama(Setting::Decode { depth: 0, dtype: None, int8: true }, 1.5),
        llama(Setting::Decode { depth: 512, dtype: None, int8: true }, 1.5),
    ]);
    let language = |setting, bar| Row { peer: Some(PeerKind::TorchLanguage), ..cpu(setting, bar) };
    rows.extend([
        language(Setting::Prefill { tokens: 512, dtype: Some("f32") }, 1.0),
        language(Setting::Decode { depth: 0, dtype: Some("f32"), int8: false }, 2.0),
    ]);
    rows.extend([("f32", 1.0), ("bf16", 1.5)].map(|(dtype, bar)| Row {
        peer: Some(PeerKind::TorchTraining),
        ..cpu(Setting::TrainStep { dtype }, bar)
    }));
    let media = |peer, setting, bar| Row { peer: Some(peer), ..cpu(setting, bar) };
    rows.extend([
        media(PeerKind::TorchSiglip, Setting::Embed, 0.95),
        media(PeerKind::FasterWhisper, Setting::Transcribe { encoder: false }, 1.0),
        media(PeerKind::FasterWhisper, Setting::Transcribe { encoder: true }, 1.2),
        media(PeerKind::Pillow, Setting::Preprocess, 2.0),
        media(PeerKind::PyAv, Setting::DecodeVideo, 1.0),
    ]);
    rows.extend([512, 1024].map(|n| gpu(Setting::Matmul { n, dtype: "f32" }, 1.8)));
    rows.extend([gpu(wide("softmax"), 2.5), gpu(wide("layer_norm"), 2.5), gpu(heads("attention"), 2.0)]);
    rows
}

/// Times of one row on one side: each turn's median, and its rate.
#[derive(Default)]
struct Turns {
    median_ms: Vec<f64>,
    first_call_ms: Vec<f64>,
    rate: Vec<f64>,
    unit: String,
}

impl Turns {
    /// Adds an answer in the shape of `percept bench --json`, whose number `time` counts.
    fn add(&mut self, answer: &Value, time: &str) -> Result<(), String> {
        let answer = answer.get(0).unwrap_or(answer);
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        let number = |name: &str| answer[name].as_f64().filter(|value| value.is_finite() && *value > 0.0);
        let whole = number("median_ms").ok_or("no positive `median_ms`")?;
        let median = number(time).ok_or_else(|| format!("no positive `{time}`"))?;
        self.median_ms.push(median);
        self.rate.push(number("rate").ok_or("no positive `rate`")? * whole / median);
        // Percept compiles ahead of its first call; a peer compiles within it.
        let compile = number("compile_ms").unwrap_or(0.0);
        self.first_call_ms.extend(number("first_call_ms").map(|first| first + compile));
        self.unit = answer["rate_unit"].as_str().ok_or("no `rate_unit`")?.to_owned();
        Ok(())
    }
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
            println!("{}", peer.about);
        }
    }
    let mut table = vec![heading()];
    let mut failures = Vec::new();
    let mut bandwidth = None;
    for row in &rows {
        let peer = peers.iter_mut().find(|peer| Some(peer.kind) == row.peer);
        match measure(&program, root, row, peer, options.rounds) {
            Ok((ours, theirs)) => {
                if matches!(row.setting, Setting::Op { op: "sum", .. }) {
                    bandwidth = ours.rate.iter().chain(&theirs.rate).copied().reduce(f64::max);
                }
                table.push(cells(row, &ours, &theirs, bandwidth));
            }
            Err(why) => failures.push(format!("{} on {}: {why}", row.setting.name(), row.device)),
        }
    }
    print!("\n{}", aligned(&table));
    for failure in &failures {
        eprintln!("not measured: {failure}");
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

fn heading() -> Vec<String> {
    ["row", "device", "ms", "rate", "peer", "ms", "ratio", "bar", "", "first call", "peer's"]
        .map(str::to_owned)
        .into()
}

/// A row of the table. `first call` is in milliseconds, compilation and tuning included.
fn cells(row: &Row, ours: &Turns, theirs: &Turns, bandwidth: Option<f64>) -> Vec<String> {
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let peer_ratio = median(&theirs.median_ms).zip(median(&ours.median_ms)).map(|(peer, ours)| peer / ours);
    let share = median(&ours.rate).zip(bandwidth).map(|(rate, most)| rate / most);
    let (ratio, bar) = match row.bar {
        Bar::Ratio(bar) => (peer_ratio, Some(bar)),
        Bar::Bandwidth(bar) => (share, Some(bar)),
        Bar::None => (peer_ratio, None),
    };
    let verdict = match ratio.zip(bar) {
        Some((ratio, bar)) if ratio >= bar => "reached",
        Some(_) => "missed",
        None => "-",
    };
    let compared = match (row.bar, row.peer) {
        (Bar::Bandwidth(_), _) => "bandwidth",
        (_, Some(peer)) if !theirs.median_ms.is_empty() => peer.name(),
        _ => "-",
    };
    vec![
        row.setting.name(),
        row.device.to_owned(),
        cell(median(&ours.median_ms), 3),
        format!("{} {}", cell(median(&ours.rate), 1), ours.unit),
        compared.to_owned(),
        cell(median(&theirs.median_ms), 3),
        cell(ratio, 2),
        cell(bar, 2),
        verdict.to_owned(),
        cell(ours.first_call_ms.first().copied(), 0),
        cell(theirs.first_call_ms.first().copied(), 0),
    ]
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

/// The middle value, or the mean of the middle two.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let high = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(high) } else { Some((sorted[middle - 1] + high) / 2.0) }
}

/// Lines of equally wide columns: words to the left, numbers to the right.
fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let is_number = cell.starts_with(|first: char| first.is_ascii_digit());
            if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn an_answer_is_read_alone_or_as_the_only_item_of_a_list() {
        let answer = json!({"median_ms": 2.0, "rate": 5.0, "rate_unit": "GB/s"});
        let mut turns = Turns::default();
        turns.add(&answer, "median_ms").unwrap();
        turns.add(&json!([answer]), "median_ms").unwrap();
        assert_eq!(turns.median_ms, [2.0, 2.0]);
        assert_eq!((turns.first_call_ms.len(), turns.unit.as_str()), (0, "GB/s"));
        let compiled = json!({"median_ms": 2.0, "rate": 5.0, "rate_unit": "GB/s", "first_call_ms": 9.0, "compile_ms": 4.0});
        turns.add(&compiled, "median_ms").unwrap();
        assert_eq!(turns.first_call_ms, [13.0]);
        let part = json!({"median_ms": 8.0, "encoder_median_ms": 2.0, "rate": 3.0, "rate_unit": "s/s"});
        turns.add(&part, "encoder_median_ms").unwrap();
        assert_eq!((turns.median_ms[3], turns.rate[3]), (2.0, 12.0));
    }

    #[test]
    fn an_answer_that_is_an_error_or_lacks_a_field_is_refused() {
        let mut turns = Turns::default();
        assert_eq!(turns.add(&json!({"error": "no such op"}), "median_ms"), Err("no such op".to_owned()));
        assert!(
            turns.add(&json!({"median_ms": 0.0, "rate": 1.0, "rate_unit": "GB/s"}), "median_ms").is_err()
        );
        assert!(turns.add(&json!({"median_ms": 1.0, "rate_unit": "GB/s"}), "median_ms").is_err());
    }

    #[test]
    fn percept_and_the_peer_are_asked_for_the_same_setting() {
        let matmul = Setting::Matmul { n: 512, dtype: "bf16" };
        assert_eq!(matmul.arguments(), "matmul --m 512 --n 512 --k 512 --dtype bf16");
        let settings = json!({"m": 512, "n": 512, "k": 512, "dtype": "bf16"});
        assert_eq!(matmul.request(), json!({"bench": "matmul", "settings": settings}));
        let op = Setting::Op { op: "softmax", shape: &[4096, 1024] };
        assert_eq!(op.arguments(), "op softmax --shape 4096x1024 --dtype f32");
        let settings = json!({"op": "softmax", "shape": [4096, 1024], "dtype": "f32"});
        assert_eq!(op.request(), json!({"bench": "op", "settings": settings}));
    }

    #[test]
    fn a_row_is_held_to_its_peer_or_to_the_bandwidth() {
        let turns = |ms, rate| Turns { median_ms: vec![ms], rate: vec![rate], ..Turns::default() };
        let verdict = |row: &Row, ours: &Turns, theirs: &Turns, bandwidth| {
            let cells = cells(row, ours, theirs, bandwidth);
            (cells[4].clone(), cells[6].clone(), cells[8].clone())
        };
        let words = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let rows = rows();
        let softmax = rows.iter().find(|row| row.setting.name().starts_with("softmax")).unwrap();
        let (ours, none) = (turns(2.0, 30.0), Turns::default());
        assert_eq!(verdict(softmax, &ours, &turns(3.0, 1.0), None), words("torch", "1.50", "reached"));
        assert_eq!(verdict(softmax, &ours, &turns(2.2, 1.0), None), words("torch", "1.10", "missed"));
        assert_eq!(verdict(softmax, &ours, &none, None), words("-", "-", "-"));
        let q4_1 = rows.iter().find(|row| row.setting.name() == "matrix-vector 16384 q4_1").unwrap();
        assert_eq!(verdict(q4_1, &ours, &none, Some(40.0)), words("bandwidth", "0.75", "reached"));
        assert_eq!(verdict(q4_1, &ours, &none, Some(60.0)), words("bandwidth", "0.50", "missed"));
    }

    #[test]
    fn columns_are_aligned() {
        let table =
            [["row", "ms"], ["softmax", "1.5"], ["gelu", "12.5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&table), "row      ms\nsoftmax   1.5\ngelu     12.5\n");
    }
}
