//! The other frameworks that `cargo xtask bench --peers` measures: `benches/peers/`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::command::{Error, Line};

/// Where the peers of media make the files that they and Percept read, from the root of the repository.
pub const MEDIA: &str = "target/bench";

/// The framework that a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// PyTorch on the CPU, eager.
    Torch,
    /// A language model in llama.cpp, its quantized weights as they are.
    LlamaCpp,
    /// The same model in PyTorch through transformers, its weights in f32.
    TorchLanguage,
    /// PyTorch training a decoder of transformers, eager.
    TorchTraining,
    /// Whisper in faster-whisper, float32.
    FasterWhisper,
    /// The image tower of SigLIP in PyTorch, float32.
    TorchSiglip,
    /// Texts embedded by sentence-transformers in PyTorch, float32.
    SentenceTransformers,
    /// Images decoded and resized by Pillow.
    Pillow,
    /// Videos decoded by PyAV.
    PyAv,
    /// Burn on its wgpu backend, from WGSL.
    Burn,
}

impl PeerKind {
    /// All frameworks.
    pub const ALL: [PeerKind; 10] = [
        PeerKind::Torch,
        PeerKind::LlamaCpp,
        PeerKind::TorchLanguage,
        PeerKind::TorchTraining,
        PeerKind::FasterWhisper,
        PeerKind::TorchSiglip,
        PeerKind::SentenceTransformers,
        PeerKind::Pillow,
        PeerKind::PyAv,
        PeerKind::Burn,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            PeerKind::Torch | PeerKind::TorchLanguage | PeerKind::TorchTraining | PeerKind::TorchSiglip => {
                "torch"
            }
            PeerKind::LlamaCpp => "llama.cpp",
            PeerKind::FasterWhisper => "faster-whisper",
            PeerKind::SentenceTransformers => "sentence-transformers",
            PeerKind::Pillow => "pillow",
            PeerKind::PyAv => "pyav",
            PeerKind::Burn => "burn",
        }
    }

    /// Installs the peer, and returns the line that starts it. A peer of media makes what it reads in
    /// `media`.
    fn prepare(self, folder: &Path, media: &Path, python: Option<&Path>) -> Result<Line, Error> {
        // llama.cpp is built from source, for this machine's instructions as it does by default.
        let (script, packages): (&[&str], &[&str]) = match self {
            PeerKind::Torch => (&["torch_bench.py"], &["torch", "numpy"]),
            PeerKind::LlamaCpp => (&["language_bench.py", "--peer", "llama"], &["llama-cpp-python"]),
            PeerKind::TorchLanguage => {
                (&["language_bench.py", "--peer", "torch"], &["torch", "transformers", "gguf", "accelerate"])
            }
            PeerKind::TorchTraining => (&["train_bench.py", "--runs", "3"], &["torch", "transformers"]),
            PeerKind::FasterWhisper => {
                (&["media_bench.py", "--peer", "whisper"], &["faster-whisper", "soundfile", "numpy"])
            }
            PeerKind::TorchSiglip => (&["media_bench.py", "--peer", "siglip"], &["torch", "transformers"]),
            PeerKind::SentenceTransformers => {
                (&["media_bench.py", "--peer", "sentences"], &["torch", "sentence-transformers"])
            }
            PeerKind::Pillow => (&["media_bench.py", "--peer", "pillow"], &["pillow", "numpy"]),
            PeerKind::PyAv => (&["media_bench.py", "--peer", "pyav"], &["av", "numpy"]),
            PeerKind::Burn => {
                let folder = folder.join("burn");
                Line::of("cargo build --release --locked").run(&folder, |_| {})?;
                let program =
                    folder.join("target/release/burn-bench").with_extension(std::env::consts::EXE_EXTENSION);
                return Ok(Line(vec![program.display().to_string()]));
            }
        };
        let python = match python {
            Some(python) => python.to_path_buf(),
            None => environment(folder, packages)?,
        };
        // As many as Percept's cpu device takes.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let program = [python.display().to_string(), folder.join(script[0]).display().to_string()];
        let mut options: Vec<&str> = script[1..].to_vec();
        let media = media.display().to_string();
        if script[0] == "media_bench.py" {
            options.extend(["--folder", &media]);
        }
        options.extend(["--serve", "--threads", &threads]);
        Ok(Line(program.into_iter().chain(options.into_iter().map(str::to_owned)).collect()))
    }
}

/// Makes a virtual environment with these packages, unless an earlier run has made it.
fn environment(folder: &Path, packages: &[&str]) -> Result<PathBuf, Error> {
    let python = folder.join(".venv/bin/python");
    if !python.exists() {
        Line::of("python3 -m venv .venv").run(folder, |_| {})?;
    }
    let shown = Line::of(&format!("{} -m pip show --quiet {}", python.display(), packages.join(" ")));
    let found = shown.command(folder).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        Line::of(&format!(".venv/bin/python -m pip install {}", packages.join(" "))).run(folder, |_| {})?;
    }
    Ok(python)
}

/// A peer's process. It answers each line of input with one line.
pub struct Peer {
    /// Which framework this is.
    pub kind: PeerKind,
    /// Its own description: version, instruction set, device.
    pub about: Value,
    line: Line,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Installs the peer, starts it and reads its description.
    pub fn start(kind: PeerKind, root: &Path, python: Option<&Path>) -> Result<Peer, Error> {
        let folder = root.join("benches/peers");
        let line = kind.prepare(&folder, &root.join(MEDIA), python)?;
        Peer::spawn(kind, line, &folder)
    }

    fn spawn(kind: PeerKind, line: Line, folder: &Path) -> Result<Peer, Error> {
        let mut command = line.command(folder);
        crate::setup::pin_lavapipe(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| line.cannot_start(source))?;
        let (Some(questions), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(line.cannot_start(std::io::Error::other("its pipes are missing")));
        };
        let answers = BufReader::new(output);
        let mut peer = Peer { kind, about: Value::Null, line, child, questions: Some(questions), answers };
        peer.about = peer.read()?;
        Ok(peer)
    }

    /// Has the peer measure a row: `{"bench", "settings"}`.
    pub fn ask(&mut self, row: &Value) -> Result<Value, Error> {
        let sent = self.questions.as_mut().map(|pipe| writeln!(pipe, "{row}").and_then(|()| pipe.flush()));
        match sent {
            Some(Ok(())) => self.read(),
            _ => Err(self.wrong("nothing: it has ended", "it should answer each row")),
        }
    }

    fn read(&mut self) -> Result<Value, Error> {
        let mut text = String::new();
        match self.answers.read_line(&mut text) {
            Ok(length) if length > 0 => {
                serde_json::from_str(&text).map_err(|error| self.wrong(text.trim(), &error.to_string()))
            }
            _ => Err(self.wrong("nothing", "it has ended")),
        }
    }

    fn wrong(&self, answer: &str, why: &str) -> Error {
        Error::Answer { line: self.line.to_string(), answer: answer.to_owned(), why: why.to_owned() }
    }
}

impl Drop for Peer {
    /// Ends the peer by closing its input, and waits, so that none outlives the bench.
    fn drop(&mut self) {
        self.questions = None;
        // Its exit status says nothing more: every answer has been read.
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str) -> Result<Peer, Error> {
        let line = Line(vec!["sh".into(), "-c".into(), script.into()]);
        Peer::spawn(PeerKind::Torch, line, Path::new("."))
    }

    #[test]
    fn a_peer_describes_itself_and_answers_each_row() {
        let script = r#"echo '{"peer":"echo"}'; while read -r row; do echo "[$row]"; done"#;
        let mut peer = shell(script).unwrap();
        assert_eq!(peer.about, json!({"peer": "echo"}));
        for row in [json!({"bench": "op"}), json!({"bench": "matmul"})] {
            assert_eq!(peer.ask(&row).unwrap(), json!([row]));
        }
    }

    #[test]
    fn a_peer_that_ends_or_talks_nonsense_is_an_error_that_names_it() {
        for script in ["true", "echo nonsense", "echo '{}'; exit 3"] {
            let outcome = shell(script).and_then(|mut peer| peer.ask(&json!({})));
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains(script), "{message}");
        }
    }
}
