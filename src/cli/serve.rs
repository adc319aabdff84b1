//! `percept serve`: models over HTTP.

mod models;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use percept::graph::DType;
use percept::pull::{AllowPrivate, MediaFetcher};
use percept::serve::{Admin, Fetch, Limits, Options, Server, Source, Wanted, read_keys};
use serde_json::{Value, json};

use super::Failure;
use super::failure::{read_bytes, read_text};
use super::model::embed::Rows;
use super::model::guessing::Guessing;
use models::Models;

#[derive(Args)]
pub struct Serve {
    /// A model to serve: a folder of safetensors, a .safetensors or .gguf file, an adapter's folder, or OWNER/NAME[@REVISION] on
    /// the Hugging Face hub. Its name is that of the folder or file, unless another is given; may be repeated
    #[arg(long, required_unless_present = "embedding_model", value_name = "[NAME=]PATH", value_parser = Named::parse)]
    model: Vec<Named>,
    /// A language model to serve for the embeddings of texts, and not to generate; may be repeated
    #[arg(long, value_name = "[NAME=]PATH", value_parser = Named::parse)]
    embedding_model: Vec<Named>,
    /// Which tokens of an embedding model stand for a text
    #[arg(long, default_value = "last", value_name = "P")]
    pooling: Rows,
    /// An adapter to serve under a name of its own, over the base that it names; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = Named::parse)]
    adapter: Vec<Named>,
    /// The address to listen on; 0.0.0.0 and :: are all addresses of the machine
    #[arg(long, default_value = "127.0.0.1", value_name = "H")]
    host: String,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000, value_name = "P")]
    port: u16,
    /// A file of API keys, one a line, of which clients must show one
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// A file of admin keys, one a line, with one of which models are loaded and unloaded at /admin/models while the server
    /// runs; no API key is one
    #[arg(long, value_name = "FILE")]
    admin_keys: Option<PathBuf>,
    /// A certificate chain in PEM, to speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// An origin whose web pages may call the server, such as https://example.org; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// A domain that media may be fetched from by their URLs, such as images.example.org or *.example.org; may be repeated,
    /// and without it none is
    #[arg(long, value_name = "DOMAIN")]
    media_domain: Vec<String>,
    /// A smaller model with the same tokenizer that guesses the next tokens of the --model of this name, or of the only
    /// one: answers stay the same, and come sooner where it is often right; may be repeated, once for each model
    #[arg(long, value_name = "[NAME=]PATH", value_parser = Named::parse)]
    draft_model: Vec<Named>,
    #[command(flatten)]
    guessing: Guessing,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    devices: DeviceArgs,
    /// Print the server's address and its log as JSON
    #[arg(long)]
    json: bool,
}

/// What a request may take, and what all of them may take together.
#[derive(Args)]
struct LimitArgs {
    /// Answers of a model that are made at once
    #[arg(long, default_value_t = 16, value_name = "N")]
    running: usize,
    /// Answers of a model that wait for their turn; more are refused with 429
    #[arg(long, default_value_t = 64, value_name = "N")]
    waiting: usize,
    /// Open connections at most
    #[arg(long, default_value_t = 4096, value_name = "N")]
    max_connections: usize,
    /// Bytes of a request in MiB at most
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    max_body: usize,
    /// Images, videos and audio clips of a request at most
    #[arg(long, default_value_t = 16, value_name = "N")]
    max_media: usize,
    /// Pixels of an image or a frame in millions at most
    #[arg(long, default_value_t = 64, value_name = "MP")]
    max_pixels: usize,
    /// Seconds of the audio of a request at most
    #[arg(long, default_value_t = 3600, value_name = "S")]
    max_seconds: u32,
    /// New tokens of an answer at most; without it the model's context limits them
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Seconds from a request's arrival to the end of its answer at most
    #[arg(long, default_value_t = 600, value_name = "S")]
    request_time: u64,
    /// Seconds that answers may go on after the server was asked to stop
    #[arg(long, default_value_t = 30, value_name = "S")]
    grace: u64,
}

/// For fetching a medium.
const FETCH_TIME: Duration = Duration::from_secs(20);

/// Where models run, and how.
#[derive(Args, Clone)]
struct DeviceArgs {
    /// Where to run: auto, cpu, wgpu:0, or a vendor's device as `percept devices` has it
    #[arg(long, default_value = "auto", value_name = "ID")]
    device: String,
    /// Load weights as f32, f16 or bf16; by default as the file has them
    #[arg(long, value_name = "D")]
    dtype: Option<DType>,
    /// Dtype of cached keys and values: f32 or f16
    #[arg(long, default_value = "f32", value_name = "D")]
    cache: DType,
    /// Rows of the cache of each model, over all its answers; by default it grows as it must
    #[arg(long, value_name = "N")]
    cache_rows: Option<usize>,
    /// Round what quantized weights multiply to int8, as llama.cpp does: less exact, and faster on some processors
    #[arg(long)]
    int8: bool,
    /// Rows of prompts that a step reads at most, and after which the other answers have their next tokens; `off` reads a
    /// prompt at once
    #[arg(long, default_value_t = percept::infer::CHUNK, value_name = "ROWS|off", value_parser = prefill_chunk)]
    prefill_chunk: usize,
    /// Read every prompt whole, even where the cache holds what it begins with
    #[arg(long)]
    no_prefix_reuse: bool,
    /// Let an answer depend on those that are made beside it: for devices whose compilers choose the order of sums, such as
    /// pjrt: and onnx:
    #[arg(long)]
    batch_variant: bool,
    /// Running anything on the host is an error, and so is an adapter that was trained on another base
    #[arg(long)]
    strict: bool,
}

/// The rows of `--prefill-chunk`.
fn prefill_chunk(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ if text == "off" => Ok(usize::MAX),
        _ => Err("give a number of rows, at least 1, or `off`".into()),
    }
}

/// A model or an adapter, and the name that it is served under.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    name: Option<String>,
    path: PathBuf,
}

impl Named {
    /// A path, or a name, `=` and a path.
    fn parse(text: &str) -> Result<Self, String> {
        let whole = Self { name: None, path: text.into() };
        match text.split_once('=').filter(|_| !whole.path.exists()) {
            None => Ok(whole),
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: Some(name.into()), path: path.into() })
            }
            Some(_) => Err(format!("'{text}': give a name and a path, as in chat=models/SmolLM2")),
        }
    }

    /// The name that was given, or that of the folder or file.
    fn name(&self) -> String {
        let path = self.path.to_string_lossy();
        // A model on the hub is called what it is called there.
        let stem = if self.path.is_file() { self.path.file_stem() } else { self.path.file_name() };
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
        let on_hub = !self.path.exists() && path.matches('/').count() == 1;
        self.name.clone().unwrap_or_else(|| match stem {
            Some(stem) if !on_hub => stem,
            _ => path.into_owned(),
        })
    }
}

impl Serve {
    pub fn run(self) -> Result<(), Failure> {
        let options = self.options()?;
        let models = Arc::new(Models::new(&self));
        let sources = self.sources(&models)?;
        let options = Options { admin: self.admin(&models)?, ..options };
        let address = match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| Failure::File { path: "the server's threads".into(), source })?;
        let served = runtime.block_on(async {
            let stop = stop_signal().map_err(|source| Failure::File { path: "signals".into(), source })?;
            let scheme = if options.tls.is_some() { "https" } else { "http" };
            let server = Server::start(sources, &address, options).await?;
            let at = server.address().map_err(|source| Failure::File { path: address.into(), source })?;
            let ready = || match self.json {
                true => println!("{}", json!({ "url": format!("{scheme}://{at}"), "ready": true })),
                false => println!("serving on {scheme}://{at}"),
            };
            Ok(server.run(ready, stop).await?)
        });
        // What is still being decoded for clients that left is not waited for.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }

    fn options(&self) -> Result<Options, Failure> {
        let limits = &self.limits;
        if limits.running == 0 {
            return Err(Failure::Usage("--running 0: at least one answer must be made at once".into()));
        }
        let keys = self.api_keys.as_deref().map(keys).transpose()?.unwrap_or_default();
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some((read_bytes(chain)?, read_bytes(key)?)),
            _ => None,
        };
        let json = self.json;
        let log = move |line: &Value| match json {
            true => println!("{line}"),
            false => eprintln!("{line}"),
        };
        let defaults = Limits::default();
        let body = limits.max_body.saturating_mul(1 << 20);
        let limits = Limits {
            running: limits.running,
            waiting: limits.waiting,
            connections: limits.max_connections,
            body,
            bodies: defaults.bodies.max(body),
            media: limits.max_media,
            pixels: limits.max_pixels.saturating_mul(1_000_000),
            seconds: limits.max_seconds,
            tokens: limits.max_tokens,
            request_time: Duration::from_secs(limits.request_time),
            grace: Duration::from_secs(limits.grace),
            ..defaults
        };
        let fetch = self.fetch(limits.body as u64)?;
        let draft = self.guessing.draft(!self.draft_model.is_empty());
        let origins = self.cors_origin.clone();
        Ok(Options { limits, keys, origins, tls, draft, fetch, log: Some(Arc::new(log)), admin: None })
    }

    /// What fetches media, where some domain is named.
    fn fetch(&self, most: u64) -> Result<Option<Fetch>, Failure> {
        if self.media_domain.is_empty() {
            return Ok(None);
        }
        let fetcher = MediaFetcher::new(self.media_domain.clone(), most, FETCH_TIME, AllowPrivate::No)?;
        Ok(Some(Arc::new(move |address: &str| fetcher.get(address))))
    }

    /// Who loads and unloads models while the server runs.
    fn admin(&self, models: &Arc<Models>) -> Result<Option<Admin>, Failure> {
        let Some(file) = &self.admin_keys else { return Ok(None) };
        let models = models.clone();
        Ok(Some(Admin { keys: keys(file)?, open: Arc::new(move |wanted: &Wanted| models.wanted(wanted)) }))
    }

    fn sources(&self, models: &Arc<Models>) -> Result<Vec<Source>, Failure> {
        self.check_drafts()?;
        let mut sources = Vec::new();
        for model in &self.model {
            sources.push(models.model(model.name(), &model.path, None, self.draft_of(model)));
        }
        for model in &self.embedding_model {
            sources.push(models.model(model.name(), &model.path, Some(self.pooling.pooling()), None));
        }
        for adapter in &self.adapter {
            let Some(name) = &adapter.name else {
                let why = format!("--adapter {0}: name it, as in --adapter NAME={0}", adapter.path.display());
                return Err(Failure::Usage(why));
            };
            let base = self.base(adapter)?;
            sources.push(models.adapter(name.clone(), &adapter.path, base.name(), &base.path));
        }
        Ok(sources)
    }

    /// Every draft model guesses for one model, and there is one for each at most.
    fn check_drafts(&self) -> Result<(), Failure> {
        let mut names: Vec<String> = Vec::new();
        for draft in &self.draft_model {
            let path = draft.path.display();
            let name = match (&draft.name, self.model.as_slice()) {
                (Some(name), _) => name.clone(),
                (None, [only]) => only.name(),
                (None, _) => {
                    let why = format!(
                        "--draft-model {path}: name the --model that it guesses for, as in NAME={path}"
                    );
                    return Err(Failure::Usage(why));
                }
            };
            if !self.model.iter().any(|model| model.name() == name) {
                return Err(Failure::Usage(format!(
                    "--draft-model {path}: there is no --model '{name}' that it could guess for"
                )));
            }
            if names.contains(&name) {
                let why = format!("--draft-model {path}: the model '{name}' has a draft model already");
                return Err(Failure::Usage(why));
            }
            names.push(name);
        }
        Ok(())
    }

    /// The draft model of a model: that of its name, or the one without a name, which [`Serve::check_drafts`] lets the only
    /// model have.
    fn draft_of(&self, model: &Named) -> Option<PathBuf> {
        let is_of = |draft: &&Named| draft.name.as_ref().is_none_or(|name| *name == model.name());
        self.draft_model.iter().find(is_of).map(|draft| draft.path.clone())
    }

    /// The served model that an adapter stands on: the only one, or the one that the adapter names.
    fn base(&self, adapter: &Named) -> Result<&Named, Failure> {
        if let [only] = self.model.as_slice() {
            return Ok(only);
        }
        let path = adapter.path.display();
        let located = percept::model::locate(&adapter.path)?;
        let same = |model: &&Named| same_place(&model.path, &located.base);
        self.model.iter().find(same).ok_or_else(|| {
            Failure::Usage(format!(
                "--adapter {path}: its base is {}, which no --model gives; serve it too",
                located.base.display()
            ))
        })
    }
}

/// The keys of a file.
fn keys(file: &Path) -> Result<Vec<String>, Failure> {
    read_keys(&read_text(file)?).map_err(|why| Failure::Content { path: file.to_path_buf(), why })
}

/// Whether two paths lead to one place.
fn same_place(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Done when the process is asked to stop.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = stop.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        // Where signals cannot be waited for, the system ends the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_the_name_that_is_given_or_its_files() {
        let name = |text: &str| Named::parse(text).map(|named| named.name());
        assert_eq!(name("chat=models/a.gguf"), Ok("chat".into()));
        assert_eq!(name("/models/SmolLM2"), Ok("SmolLM2".into()));
        assert_eq!(name("HuggingFaceTB/SmolLM2"), Ok("HuggingFaceTB/SmolLM2".into()));
        assert!(name("=a").is_err() && name("a=").is_err());
    }
}
