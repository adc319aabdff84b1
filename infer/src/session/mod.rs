//! A model on a device, and the sequences that it reads.
//!
//! A [`Session`] owns the device, the weights, loaded once, the programs compiled for each shape of step, and a paged cache
//! of keys and values. [`Session::step`] reads rows of any number of sequences in one run, whole prompts and single tokens
//! mixed; everything else is made of it. What a sequence gives does not depend on its company.

mod adapters;
mod cache;
mod draft;
mod extents;
mod media;
mod pages;
mod score;
mod sequence;
mod states;
mod step;

use std::sync::{Arc, OnceLock};

use percept_graph::{Composite, DType, Op};
use percept_hal::{CompileOptions, CompileReport, Device, OpTiming};
use percept_modalities::Inputs;
use percept_model::{CausalModel, EncoderRun, Layout, PAGE, PassShape};

use crate::error::{Error, Result};
use crate::ids::check_ids;
use crate::runner::{RecordedRun, Runner};
use crate::shared_weights::SharedWeights;
use adapters::{Adapters, Held};
use cache::{Cache, FIRST_PAGES};
use media::{Encoded, RunHash};

pub use adapters::AdapterId;
pub use extents::CHUNK;
pub use sequence::Sequence;
pub use step::Part;

/// How a model runs.
#[derive(Clone)]
pub struct SessionOptions {
    /// Running anything on the host is an error.
    pub strict: bool,
    /// Runs what the device cannot.
    pub host: Option<Arc<dyn Device>>,
    /// Dtype of the cache: f32 or f16.
    pub cache: DType,
    /// Rows that the cache has room for, over all sequences; `None` lets it become as large as it must. A cache that
    /// becomes larger is made anew, and its sequences are read again.
    pub cache_rows: Option<usize>,
    /// Bytes of features of media that are kept, so that media that come again are not encoded again.
    pub encoded_bytes: usize,
    /// Weights that other sessions on the device hold are not loaded again.
    pub weights: Option<SharedWeights>,
    /// What is multiplied by quantized weights is rounded to int8, as llama.cpp does: less exact, faster on some processors.
    pub int8: bool,
    /// A row's result does not depend on how rows are batched or chunked. On the cpu it never does.
    pub batch_invariant: bool,
    /// Rows of one sequence that a step reads at most, unless an image block alone is wider. Layers with a window have
    /// room in the cache for as many beside it. `usize::MAX` reads a prompt at once.
    pub chunk: usize,
    /// What the cache holds of a prompt is not read again for another one that begins alike.
    pub share_prefixes: bool,
}

/// Features of some hundred pictures of a model of usual size.
const ENCODED_BYTES: usize = 256 << 20;

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            strict: false,
            host: None,
            cache: DType::F32,
            cache_rows: None,
            encoded_bytes: ENCODED_BYTES,
            weights: None,
            int8: false,
            batch_invariant: false,
            chunk: CHUNK,
            share_prefixes: true,
        }
    }
}

/// What a program of a session is for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A step of the decoder, and what the adapters of its slots do beside which layers, by number.
    Step(PassShape, Vec<u64>),
    /// An encoder, by the key of its run.
    Encoder(String),
    /// A page is copied, by the kind of layer and the pages of its pools.
    Copy(usize, usize),
}

/// A model on a device with its weights loaded once, and a cache that many sequences share.
pub struct Session {
    model: Arc<dyn CausalModel>,
    options: SessionOptions,
    runner: Runner<Key>,
    windows: Vec<Option<usize>>,
    /// Some rotation depends on the length of the sequence.
    grows: bool,
    cache: Cache,
    encoded: Encoded,
    adapters: Adapters,
    ends: OnceLock<Vec<i32>>,
    /// Sequences that the cache was made for.
    sequences: usize,
    /// Rows that steps have read.
    rows_read: u64,
    /// Guesses next tokens.
    draft: Option<Box<Session>>,
    /// Answer many requests, where there are any.
    pub(crate) lanes: Vec<Session>,
}

/// A prompt whose tokens and media have their rows, and whose encoders have not run yet.
pub struct Prompt {
    layout: Layout,
    runs: Vec<(RunHash, EncoderRun)>,
    adapter: Option<Arc<Held>>,
}

impl Prompt {
    /// Its rows: tokens and features of media.
    pub fn len(&self) -> usize {
        self.layout.ids.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.layout.ids.is_empty()
    }

    /// The tokens of the rows.
    pub fn ids(&self) -> &[i32] {
        &self.layout.ids
    }
}

impl Session {
    /// Load a model's weights and compile its decoding step.
    ///
    /// # Errors
    /// When the checkpoint does not fit its configuration, or the device cannot take or run it.
    pub fn new(
        device: Arc<dyn Device>,
        model: Box<dyn CausalModel>,
        options: SessionOptions,
    ) -> Result<Self> {
        Self::of(device, model.into(), options)
    }

    /// A session of the same model and under the same options on another device, with weights and a cache of its own, and
    /// neither adapters nor a draft model.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn on(&self, device: Arc<dyn Device>) -> Result<Self> {
        // Weights are shared by sessions of one device.
        let options = SessionOptions { weights: None, ..self.options.clone() };
        Self::of(device, self.model.clone(), options)
    }

    fn of(device: Arc<dyn Device>, model: Arc<dyn CausalModel>, options: SessionOptions) -> Result<Self> {
        if !matches!(options.cache, DType::F32 | DType::F16) {
            return Err(Error::Setting(format!("the cache is f32 or f16, not {}", options.cache)));
        }
        if options.chunk == 0 {
            return Err(Error::Setting(
                "a step reads at least one row of a sequence; give a chunk of 1".into(),
            ));
        }
        let decoder = model.decoder();
        let compile = CompileOptions {
            strict: options.strict,
            host: options.host.clone(),
            batch_invariant: options.batch_invariant,
            ..CompileOptions::default()
        };
        // How many sequences a cache of a fixed size is shared by is not known: layers with a window get as many pages as
        // the others.
        let (pages, sequences) = options.cache_rows.map_or((0, 1), |rows| (rows.div_ceil(PAGE), usize::MAX));
        let windows = decoder.windows();
        let has_states = decoder.has_states();
        let mut runner = Runner::new(device, compile, options.int8);
        if let Some(store) = &options.weights {
            runner.share_weights(store.clone());
        }
        let mut session = Self {
            runner,
            grows: decoder.ropes.iter().any(percept_model::Rope::grows),
            cache: Cache::new(1, pages.max(FIRST_PAGES), sequences, &windows, has_states, options.chunk),
            encoded: Encoded::new(options.encoded_bytes),
            adapters: Adapters::default(),
            ends: OnceLock::new(),
            sequences,
            windows,
            model,
            options,
            rows_read: 0,
            draft: None,
            lanes: Vec::new(),
        };
        let shape = session.shape(percept_model::Group { sequences: 1, rows: 1 });
        let weights = session.model.weights();
        session.runner.prepare(&Key::Step(shape.clone(), Vec::new()), weights, || {
            Ok(session.model.decoder().step(weights, &shape)?)
        })?;
        let int8_dot = Op::Composite(Composite::Int8Dot).name();
        let rounds = session.runner.reports().flat_map(|report| &report.placed).any(|p| p.op == int8_dot);
        if session.options.int8 && !rounds {
            let why = "no weight is quantized, so nothing would be rounded to int8; leave int8 away";
            return Err(Error::Setting(why.into()));
        }
        Ok(session)
    }

    /// The model that runs.
    pub fn model(&self) -> &dyn CausalModel {
        &*self.model
    }

    /// A handle to the model that outlives a borrow of the session.
    pub fn shared_model(&self) -> Arc<dyn CausalModel> {
        self.model.clone()
    }

    /// The tokens that end an answer of the model.
    pub(crate) fn ends(&self) -> Result<&[i32]> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let ends = self.model.ends()?;
        Ok(self.ends.get_or_init(|| ends))
    }

    /// Rows of one sequence that a step reads at most.
    pub fn chunk(&self) -> usize {
        self.options.chunk
    }

    /// Whether prompts share what the cache holds of them.
    pub(crate) fn shares_prefixes(&self) -> bool {
        self.options.share_prefixes
    }

    /// Rows that steps have read so far, those among them that were read again.
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// The device that the model runs on.
    pub fn device(&self) -> &dyn Device {
        &**self.runner.device()
    }

    /// What every compilation decided, those of a draft model and of lanes behind the others.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        let others = self.draft.iter().map(|draft| &**draft).chain(&self.lanes);
        self.runner.reports().chain(others.flat_map(|other| other.runner.reports()))
    }

    /// From now on keep the graph and the inputs of every run of the model: encoders, prompts and steps.
    pub fn record_runs(&mut self) {
        self.runner.record_runs();
    }

    /// The runs recorded so far, in their order.
    pub fn take_recorded_runs(&mut self) -> Vec<RecordedRun> {
        self.runner.take_recorded_runs()
    }

    /// From now on time operations one by one, which is slower; [`Session::take_timeline`] gives what was timed.
    pub fn record_timeline(&mut self) {
        self.runner.record_timeline();
        self.draft.iter_mut().for_each(|draft| draft.runner.record_timeline());
    }

    /// The operations timed so far, those of a draft model behind the others.
    pub fn take_timeline(&mut self) -> Vec<OpTiming> {
        let mut all = self.runner.take_timeline();
        let after = all.iter().map(OpTiming::end_us).fold(0.0, f64::max);
        if let Some(draft) = &mut self.draft {
            let own = draft.runner.take_timeline().into_iter();
            all.extend(own.map(|e| OpTiming { start_us: e.start_us + after, ..e }));
        }
        all
    }

    /// Where the tokens and media of a prompt stand. Nothing runs yet.
    ///
    /// # Errors
    /// When the inputs do not fit the model or its context.
    pub fn prompt(&self, inputs: &Inputs) -> Result<Prompt> {
        self.prompt_with(inputs, None)
    }

    /// As [`Session::prompt`], for a sequence that is read with an adapter of the session.
    ///
    /// # Errors
    /// Also when the session has no such adapter.
    pub fn prompt_with(&self, inputs: &Inputs, adapter: Option<AdapterId>) -> Result<Prompt> {
        let adapter = adapter.map(|id| self.adapters.find(id)).transpose()?;
        let layout = self.model.layout(inputs)?;
        let (rows, context) = (layout.ids.len(), self.model.decoder().context);
        if rows == 0 {
            return Err(Error::Setting("the prompt is empty; give it at least one token".into()));
        }
        if rows > context {
            return Err(Error::TooLong { what: "the prompt", tokens: rows, context });
        }
        // Rows of features need no row of the table.
        let embedded = layout.ids.iter().zip(&layout.features).filter(|(_, feature)| feature.is_none());
        self.check_ids(embedded.map(|(id, _)| *id))?;
        let runs = self.model.encoder_runs(inputs)?.into_iter().map(|run| (media::hash(&run), run)).collect();
        Ok(Prompt { layout, runs, adapter })
    }

    /// A sequence that begins with a prompt: its encoders run, and what the cache holds of it already is shared. The
    /// rows are read by [`Session::step`] or [`Session::read`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn start(&mut self, prompt: Prompt) -> Result<Sequence> {
        let mut sequence = self.start_unread(prompt)?;
        self.share_prefix(&mut sequence);
        Ok(sequence)
    }

    /// As [`Session::start`], and what the cache holds is not shared yet.
    pub(crate) fn start_unread(&mut self, prompt: Prompt) -> Result<Sequence> {
        let media = self.encode(prompt.runs)?;
        let needed = prompt.layout.features.iter().flatten().max().map_or(0, |row| row + 1);
        let (given, sets) = media.extents();
        let wanted = 1 + self.model.decoder().deepstack;
        if needed > given || (needed > 0 && sets < wanted) {
            return Err(Error::Setting(format!(
                "the encoders gave {given} rows of features in {sets} sets, {needed} in {wanted} are needed"
            )));
        }
        Ok(self.sequence(prompt.layout, Arc::new(media), prompt.adapter))
    }

    /// A sequence without a row.
    pub fn start_empty(&self) -> Sequence {
        let nothing = Layout {
            ids: Vec::new(),
            positions: vec![Vec::new()],
            next: vec![0.0],
            features: Vec::new(),
            blocks: None,
        };
        self.sequence(nothing, Arc::default(), None)
    }

    fn sequence(
        &self,
        layout: Layout,
        media: Arc<media::MediaFeatures>,
        adapter: Option<Arc<Held>>,
    ) -> Sequence {
        Sequence::new(layout, media, self.windows.len(), self.cache.states.is_some(), adapter)
    }

    /// Read a prompt into a new sequence, with room in the cache for `more` tokens; gives the logits [.., vocab] of its rows
    /// from `from` on.
    ///
    /// # Errors
    /// When the inputs do not fit the model or its context, or the device fails.
    pub fn prefill(&mut self, inputs: &Inputs, more: usize, from: usize) -> Result<(Sequence, Vec<f32>)> {
        let prompt = self.prompt(inputs)?;
        let rows = prompt.len().saturating_add(more).min(self.model.decoder().context.max(prompt.len()));
        self.reserve(rows)?;
        let mut sequence = self.start(prompt)?;
        let logits = self.read(&mut sequence, from)?;
        Ok((sequence, logits))
    }

    /// Read one more token; gives the logits [vocab] of what follows it.
    ///
    /// # Errors
    /// When the sequence is as long as the context, or the device fails.
    pub fn decode(&mut self, sequence: &mut Sequence, id: i32) -> Result<Vec<f32>> {
        self.append(sequence, &[id], 0)
    }

    /// Read more tokens; gives the logits [.., vocab] of their rows from `from` on.
    ///
    /// # Errors
    /// As [`Session::decode`].
    pub fn append(&mut self, sequence: &mut Sequence, ids: &[i32], from: usize) -> Result<Vec<f32>> {
        let first = sequence.len();
        self.push(sequence, ids)?;
        self.read(sequence, first.saturating_add(from))
    }

    /// Add tokens to a sequence, to be read by the next steps.
    ///
    /// # Errors
    /// When the sequence would be longer than the context, or a token has no row in the table.
    pub fn push(&self, sequence: &mut Sequence, ids: &[i32]) -> Result<()> {
        self.check_push(sequence, ids)?;
        sequence.push(ids);
        Ok(())
    }

    fn check_ids(&self, ids: impl Iterator<Item = i32>) -> Result<()> {
        check_ids(ids, self.model.decoder().vocab, self.model.processor().tokenizer())
    }

    fn check_push(&self, sequence: &Sequence, ids: &[i32]) -> Result<()> {
        let (tokens, context) = (sequence.len() + ids.len(), self.model.decoder().context);
        if tokens > context {
            return Err(Error::TooLong { what: "the prompt and its continuation", tokens, context });
        }
        self.check_ids(ids.iter().copied())
    }
}
