//! The rows: what is timed, beside whom, and what each should reach.

use serde_json::{Value, json};

use crate::peers::{MEDIA, PeerKind};

/// One setting, the device that Percept runs it on, the peer, and what to reach.
pub struct Row {
    pub device: &'static str,
    pub peer: Option<PeerKind>,
    pub bar: Bar,
    pub setting: Setting,
}

/// What a row should reach.
#[derive(Clone, Copy)]
pub enum Bar {
    /// This many times the peer's speed.
    Ratio(f64),
    /// This share of the memory bandwidth that the sums reached.
    Bandwidth(f64),
    /// Nothing: the row measures the machine.
    None,
}

/// What `percept bench` is to time.
pub enum Setting {
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
    /// The same model writes 64 tokens of each of so many sequences, one of each in a step.
    DecodeBatch { batch: u64 },
    /// A decoder of 6 layers, 384 wide, takes a step of training on 8 rows of 256 tokens.
    TrainStep { dtype: &'static str },
    /// SigLIP-base/16-224 embeds 8 images.
    Embed,
    /// all-MiniLM-L6-v2 embeds 32 texts of 24 words.
    EmbedTexts,
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
/// Texts that MiniLM embeds at a time, and words of each.
const TEXTS: u64 = 32;
const WORDS: u64 = 24;
/// Seconds of audio in the file of five sentences.
const SPEECH: f64 = 24.7;

/// The language model of the rows, which `cargo xtask assets` fetches.
fn language_model() -> String {
    let folder = crate::assets::folder().unwrap_or_default();
    folder.join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").display().to_string()
}

/// The encoder of texts of the rows, likewise.
fn text_encoder() -> String {
    crate::assets::folder().unwrap_or_default().join("all-MiniLM-L6-v2").display().to_string()
}

/// The Whisper of the rows, likewise.
fn speech_model() -> String {
    crate::assets::folder().unwrap_or_default().join("whisper-tiny.en").display().to_string()
}

impl Setting {
    /// The words after `percept bench`.
    pub fn arguments(&self) -> String {
        match self {
            Setting::Matmul { n, dtype } => format!("matmul --m {n} --n {n} --k {n} --dtype {dtype}"),
            Setting::MatrixVector { n, dtype } => format!("matmul --m 1 --n {n} --k {n} --dtype {dtype}"),
            Setting::Op { op, shape } => format!("op {op} --shape {} --dtype f32", by(shape)),
            Setting::Prefill { tokens, dtype } => format!("prefill --tokens {tokens}{}", load(*dtype)),
            Setting::Decode { depth, dtype, int8 } => {
                let int8 = if *int8 { " --int8 --cache f16" } else { "" };
                format!("decode --depth {depth} --tokens {WRITTEN}{}{int8}", load(*dtype))
            }
            Setting::DecodeBatch { batch } => format!("decode --batch {batch} --tokens {WRITTEN}"),
            Setting::TrainStep { dtype } => format!("train-step --dtype {dtype}"),
            Setting::EmbedTexts => format!("embed --batch {TEXTS} --words {WORDS}"),
            Setting::Embed => format!("embed --batch {EMBEDDED}"),
            Setting::Transcribe { .. } => format!("transcribe --seconds {SPEECH}"),
            Setting::Preprocess => format!("preprocess --batch {COPIES}"),
            Setting::DecodeVideo => "preprocess".to_owned(),
        }
    }

    /// The options that name files, and the files.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let media = |name: &str| format!("{MEDIA}/{name}");
        match self {
            Setting::Prefill { .. } | Setting::Decode { .. } | Setting::DecodeBatch { .. } => {
                vec![("--model", language_model())]
            }
            Setting::EmbedTexts => vec![("--model", text_encoder())],
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
    pub fn needs_peer(&self) -> bool {
        self.files().iter().any(|(_, file)| file.starts_with(MEDIA))
    }

    /// The number of an answer that is the row's time.
    pub fn time(&self) -> &'static str {
        if matches!(self, Setting::Transcribe { encoder: true }) { "encoder_median_ms" } else { "median_ms" }
    }

    /// How long Percept repeats a row: seconds for operations, runs for models.
    pub fn effort(&self) -> &'static str {
        match self {
            Setting::Matmul { .. } | Setting::MatrixVector { .. } | Setting::Op { .. } => "--seconds 0.5",
            _ => "--runs 3",
        }
    }

    /// The row as a peer reads it.
    pub fn request(&self) -> Value {
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
            Setting::DecodeBatch { batch } => {
                let settings =
                    json!({"model": language_model(), "depth": 0, "tokens": WRITTEN, "batch": batch});
                json!({"bench": "decode", "settings": settings})
            }
            Setting::EmbedTexts => {
                json!({"bench": "embed", "settings": {"model": text_encoder(), "batch": TEXTS, "words": WORDS}})
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

    /// What the row is called.
    pub fn name(&self) -> String {
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
            Setting::DecodeBatch { batch } => format!("decode batch {batch} q4_1"),
            Setting::EmbedTexts => format!("minilm {TEXTS} texts"),
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
pub fn rows() -> Vec<Row> {
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
        llama(Setting::DecodeBatch { batch: 16 }, 2.5),
        llama(Setting::DecodeBatch { batch: 64 }, 2.5),
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
        media(PeerKind::SentenceTransformers, Setting::EmbedTexts, 1.2),
        media(PeerKind::FasterWhisper, Setting::Transcribe { encoder: false }, 1.0),
        media(PeerKind::FasterWhisper, Setting::Transcribe { encoder: true }, 1.2),
        media(PeerKind::Pillow, Setting::Preprocess, 2.0),
        media(PeerKind::PyAv, Setting::DecodeVideo, 1.0),
    ]);
    rows.extend([512, 1024].map(|n| gpu(Setting::Matmul { n, dtype: "f32" }, 1.8)));
    rows.extend([gpu(wide("softmax"), 2.5), gpu(wide("layer_norm"), 2.5), gpu(heads("attention"), 2.0)]);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
