//! A model on a device.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use percept_graph::passes::int8_dots;
use percept_graph::{Composite, DType, Op, Role, TensorType, Trace};
use percept_hal::{Buffer, CompileOptions, CompileReport, Device, TraceEvent};
use percept_modalities::Inputs;
use percept_model::{CausalModel, Layout, StepShape};

use crate::chunk::{bucket, capacity, chunks};
use crate::error::{Error, Result};
use crate::ids::check_ids;
use crate::program::Program;
use crate::sequence::Sequence;

/// How a model runs.
#[derive(Clone)]
pub struct EngineOptions {
    /// Running anything on the host is an error.
    pub strict: bool,
    /// Runs what the device cannot.
    pub host: Option<Arc<dyn Device>>,
    /// Dtype of the cache: f32 or f16.
    pub cache: DType,
    /// What is multiplied by quantized weights is rounded to int8, as llama.cpp does: faster, and less exact.
    pub int8: bool,
    /// A row's result does not depend on how rows are chunked.
    pub batch_invariant: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { strict: false, host: None, cache: DType::F32, int8: false, batch_invariant: false }
    }
}

/// A model on a device, with its weights loaded once and an executable for every shape of step that was needed.
pub struct Engine {
    device: Arc<dyn Device>,
    model: Arc<dyn CausalModel>,
    options: EngineOptions,
    weights: HashMap<(String, TensorType), Buffer>,
    steps: HashMap<StepShape, Program>,
    encoders: HashMap<String, Program>,
    growth: HashMap<(TensorType, usize), Program>,
    timeline: Option<Vec<TraceEvent>>,
}

/// What the encoders made of a prompt's media.
struct Features {
    /// f32[n,hidden], all runs one after the other.
    rows: Vec<f32>,
    /// Extra features of the same shape.
    deepstack: Vec<Vec<f32>>,
}

impl Engine {
    /// Load a model's weights and compile its decoding step.
    ///
    /// # Errors
    /// When the checkpoint does not fit its configuration, or the device cannot take or run it.
    pub fn new(device: Arc<dyn Device>, model: Box<dyn CausalModel>, options: EngineOptions) -> Result<Self> {
        if !matches!(options.cache, DType::F32 | DType::F16) {
            return Err(Error::Setting(format!("the cache is f32 or f16, not {}", options.cache)));
        }
        let mut engine = Self {
            device,
            model: model.into(),
            options,
            weights: HashMap::new(),
            steps: HashMap::new(),
            encoders: HashMap::new(),
            growth: HashMap::new(),
            timeline: None,
        };
        let context = engine.model.decoder().context;
        let shape = engine.shape(1, capacity(1, context), 1);
        engine.step_program(&shape)?;
        Ok(engine)
    }

    /// The model.
    pub fn model(&self) -> &dyn CausalModel {
        &*self.model
    }

    /// An empty sequence with room for `tokens`, or as many as the context holds.
    pub fn start(&self, tokens: usize) -> Sequence {
        let context = self.model.decoder().context;
        Sequence::new(capacity(tokens.min(context), context))
    }

    /// A handle to the model that outlives a borrow of the engine.
    pub(crate) fn shared_model(&self) -> Arc<dyn CausalModel> {
        self.model.clone()
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// What every compilation decided.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        let programs = self.steps.values().chain(self.encoders.values()).chain(self.growth.values());
        programs.map(Program::report)
    }

    /// From now on time operations one by one, which is slower; [`Engine::take_timeline`] gives what was timed.
    pub fn record_timeline(&mut self) {
        self.timeline.get_or_insert_default();
    }

    /// The operations timed so far.
    pub fn take_timeline(&mut self) -> Vec<TraceEvent> {
        self.timeline.take().unwrap_or_default()
    }

    /// Read a prompt into a new sequence with room for `more` tokens; gives the logits [.., vocab] of its rows from
    /// `from` on.
    ///
    /// # Errors
    /// When the inputs do not fit the model or its context, or the device fails.
    pub fn prefill(&mut self, inputs: &Inputs, more: usize, from: usize) -> Result<(Sequence, Vec<f32>)> {
        let layout = self.model.layout(inputs)?;
        let (rows, context) = (layout.ids.len(), self.model.decoder().context);
        if rows == 0 {
            return Err(Error::Setting("the prompt is empty; give it at least one token".into()));
        }
        if rows > context {
            return Err(Error::TooLong { what: "the prompt", tokens: rows, context });
        }
        let features = self.encode(inputs)?;
        let mut sequence = self.start(rows.saturating_add(more));
        let logits = self.extend(&mut sequence, &layout, &features, from)?;
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
    /// As [`Engine::decode`].
    pub fn append(&mut self, sequence: &mut Sequence, ids: &[i32], from: usize) -> Result<Vec<f32>> {
        let context = self.model.decoder().context;
        let tokens = sequence.length + ids.len();
        if tokens > context {
            return Err(Error::TooLong { what: "the prompt and its continuation", tokens, context });
        }
        let more = ids.len() as i32;
        let layout = Layout {
            ids: ids.to_vec(),
            positions: sequence.next.iter().map(|&at| (at..at.saturating_add(more)).collect()).collect(),
            next: sequence.next.iter().map(|&at| at.saturating_add(more)).collect(),
            features: vec![None; ids.len()],
            blocks: None,
        };
        self.extend(sequence, &layout, &Features { rows: Vec::new(), deepstack: Vec::new() }, from)
    }

    /// The logits [n, vocab] that decide each of `continuation`'s tokens after the prompt, all of them read.
    ///
    /// # Errors
    /// As [`Engine::prefill`].
    pub fn score(&mut self, inputs: &Inputs, continuation: &[i32]) -> Result<Vec<f32>> {
        let rows = self.model.layout(inputs)?.ids.len();
        let (mut sequence, mut logits) = self.prefill(inputs, continuation.len(), rows.saturating_sub(1))?;
        if let [read @ .., _] = continuation {
            logits.extend(self.append(&mut sequence, read, 0)?);
        }
        Ok(logits)
    }

    /// Run the encoders on a prompt's media.
    fn encode(&mut self, inputs: &Inputs) -> Result<Features> {
        let mut all = Features { rows: Vec::new(), deepstack: Vec::new() };
        for run in self.model.encoder_runs(inputs)? {
            if !self.encoders.contains_key(&run.key) {
                let program =
                    compile(&self.device, &self.options, &*self.model, &mut self.weights, run.graph)?;
                self.encoders.insert(run.key.clone(), program);
            }
            let program = &self.encoders[&run.key];
            let argument = |name: &str, _: &TensorType| match run.arguments.get(name) {
                Some(t) => Ok(self.device.upload(t.ty(), t.bytes())?),
                None => Err(Error::Setting(format!("the encoder's input '{name}' was not given"))),
            };
            let outputs = execute(program, &mut self.timeline, argument)?;
            for (output, buffer) in program.graph().outputs().iter().zip(&outputs) {
                let values = floats(&self.device.read(buffer)?);
                match output.name.strip_prefix("deepstack.").and_then(|k| k.parse::<usize>().ok()) {
                    Some(k) => {
                        if all.deepstack.len() <= k {
                            all.deepstack.resize(k + 1, Vec::new());
                        }
                        all.deepstack[k].extend(values);
                    }
                    None => all.rows.extend(values),
                }
            }
        }
        Ok(all)
    }

    /// Read the rows of a layout onto a sequence, chunk by chunk.
    fn extend(
        &mut self,
        sequence: &mut Sequence,
        layout: &Layout,
        features: &Features,
        from: usize,
    ) -> Result<Vec<f32>> {
        let rows = layout.ids.len();
        let vocab = self.model.decoder().vocab;
        // Rows of features need no row of the table.
        let embedded = layout.ids.iter().zip(&layout.features).filter(|(_, feature)| feature.is_none());
        check_ids(embedded.map(|(id, _)| *id), vocab, self.model.processor().tokenizer())?;
        self.reserve(sequence, sequence.length + rows)?;
        let block = |at: usize| layout.blocks.as_ref().map_or(-1, |b| b[at]);
        let total = sequence.length + rows;
        let mut logits = Vec::with_capacity(rows.saturating_sub(from).saturating_mul(vocab).min(1 << 28));
        for chunk in chunks(rows, block) {
            let wanted = from.clamp(chunk.start, chunk.end)..chunk.end;
            logits.extend(self.run_chunk(sequence, layout, features, chunk, wanted, total)?);
        }
        sequence.next.clone_from(&layout.next);
        Ok(logits)
    }

    /// One run over the rows of a chunk, with the logits of those that are wanted.
    fn run_chunk(
        &mut self,
        sequence: &mut Sequence,
        layout: &Layout,
        features: &Features,
        chunk: Range<usize>,
        wanted: Range<usize>,
        total: usize,
    ) -> Result<Vec<f32>> {
        let width = bucket(chunk.len());
        let count = match wanted.len() {
            0 => 0,
            n => bucket(n),
        };
        let mut shape = self.shape(width, sequence.capacity, count);
        shape.media = layout.features[chunk.clone()].iter().any(Option::is_some);
        shape.blocks = layout.blocks.as_ref().is_some_and(|b| b[chunk.clone()].iter().any(|&b| b >= 0));
        self.step_program(&shape)?;
        let program = &self.steps[&shape];
        let decoder = self.model.decoder();
        let padded = |values: &[i32], with: i32| {
            let mut values = values.to_vec();
            values.resize(width, with);
            values
        };
        let positions: Vec<&[i32]> = layout.positions.iter().map(|axis| &axis[chunk.clone()]).collect();
        let angles: Vec<[Vec<f32>; 2]> = decoder.ropes.iter().map(|r| r.angles(&positions, total)).collect();
        let start = sequence.length;
        let length = start + chunk.len();
        let places = &layout.features[chunk.clone()];
        let (device, caches) = (&self.device, &mut sequence.caches);
        let argument = |name: &str, ty: &TensorType| -> Result<Buffer> {
            let i32s = |values: &[i32]| device.upload(ty, &le_bytes(values));
            let f32s = |values: &[f32]| {
                let mut bytes = le_bytes(values);
                bytes.resize(ty.bytes(), 0);
                device.upload(ty, &bytes)
            };
            if let Some(cache) = caches.remove(name) {
                return Ok(cache);
            }
            Ok(match name.split('.').collect::<Vec<_>>()[..] {
                ["ids"] => i32s(&padded(&layout.ids[chunk.clone()], 0))?,
                ["pos"] => i32s(&[start as i32])?,
                ["kv_len"] => i32s(&[length as i32])?,
                ["out"] => {
                    let first = (wanted.start - chunk.start) as i32;
                    let mut rows: Vec<i32> = (first..first + wanted.len() as i32).collect();
                    rows.resize(count, 0);
                    i32s(&rows)?
                }
                ["rope", i, which] => {
                    let pair = i.parse::<usize>().ok().and_then(|i| angles.get(i));
                    let table = pair.map(|p| &p[(which == "sin") as usize]);
                    f32s(table.map_or(&[], |t| t))?
                }
                ["blocks", "q"] => {
                    let blocks = layout.blocks.as_ref().map_or(&[][..], |b| &b[chunk.clone()]);
                    i32s(&padded(blocks, -1))?
                }
                ["blocks", "k"] => {
                    // Blocks are never cut, so only keys of this very chunk can share one with its queries.
                    let mut keys = vec![-1; ty.numel()];
                    let blocks = layout.blocks.as_ref().map_or(&[][..], |b| &b[chunk.clone()]);
                    keys[start..length].copy_from_slice(blocks);
                    i32s(&keys)?
                }
                ["is_feature"] => {
                    let mut flags: Vec<u8> = places.iter().map(|p| p.is_some() as u8).collect();
                    flags.resize(width, 0);
                    device.upload(ty, &flags)?
                }
                ["features"] => f32s(&scattered(&features.rows, places, decoder.hidden)?)?,
                ["deepstack", k] => {
                    let set = k.parse::<usize>().ok().and_then(|k| features.deepstack.get(k));
                    f32s(&scattered(set.map_or(&[], |s| s), places, decoder.hidden)?)?
                }
                _ => device.zeros(ty)?,
            })
        };
        let outputs = execute(program, &mut self.timeline, argument)?;
        let mut logits = Vec::new();
        for (output, buffer) in program.graph().outputs().iter().zip(outputs) {
            if output.name == "logits" {
                logits = floats(&self.device.read(&buffer)?);
                logits.truncate(wanted.len() * decoder.vocab);
            } else {
                sequence.caches.insert(output.name.clone(), buffer);
            }
        }
        sequence.length = length;
        Ok(logits)
    }

    /// Make room for `tokens` rows.
    fn reserve(&mut self, sequence: &mut Sequence, tokens: usize) -> Result<()> {
        if tokens <= sequence.capacity {
            return Ok(());
        }
        let room = capacity(tokens, self.model.decoder().context);
        let names: Vec<String> = sequence.caches.keys().cloned().collect();
        for name in names {
            let Some(old) = sequence.caches.remove(&name) else { continue };
            let key = (old.ty().clone(), room);
            if !self.growth.contains_key(&key) {
                let program = growth(&*self.device, &self.options, old.ty(), room)?;
                self.growth.insert(key.clone(), program);
            }
            let mut grown = self.growth[&key].run(|_, _| Ok(old.clone()))?;
            sequence.caches.extend(grown.pop().map(|new| (name, new)));
        }
        sequence.capacity = room;
        Ok(())
    }

    fn shape(&self, rows: usize, capacity: usize, logits: usize) -> StepShape {
        StepShape { rows, capacity, logits, cache: self.options.cache, media: false, blocks: false }
    }

    fn step_program(&mut self, shape: &StepShape) -> Result<()> {
        if !self.steps.contains_key(shape) {
            let graph = self.model.decoder().step(self.model.weights(), shape)?;
            let quantized = |op: &Op| matches!(op, Op::Composite(Composite::QuantizedDot { .. }));
            if self.options.int8 && !graph.nodes().iter().any(|node| quantized(&node.op)) {
                let why = "no weight is quantized, so nothing would be rounded to int8; leave int8 away";
                return Err(Error::Setting(why.into()));
            }
            let program = compile(&self.device, &self.options, &*self.model, &mut self.weights, graph)?;
            self.steps.insert(shape.clone(), program);
        }
        Ok(())
    }
}

fn compile_options(options: &EngineOptions) -> CompileOptions {
    CompileOptions {
        strict: options.strict,
        batch_invariant: options.batch_invariant,
        host: options.host.clone(),
        ..CompileOptions::default()
    }
}

fn compile(
    device: &Arc<dyn Device>,
    options: &EngineOptions,
    model: &dyn CausalModel,
    weights: &mut HashMap<(String, TensorType), Buffer>,
    graph: percept_graph::Graph,
) -> Result<Program> {
    let graph = if options.int8 { int8_dots(&graph)? } else { graph };
    Program::compile(&**device, graph, &compile_options(options), |name, ty, uses| {
        let key = (name.to_string(), ty.clone());
        if let Some(loaded) = weights.get(&key) {
            return Ok(loaded.clone());
        }
        let buffer = model.weights().load(&**device, name, ty, uses)?;
        weights.insert(key, buffer.clone());
        Ok(buffer)
    })
}

fn execute(
    program: &Program,
    timeline: &mut Option<Vec<TraceEvent>>,
    argument: impl FnMut(&str, &TensorType) -> Result<Buffer>,
) -> Result<Vec<Buffer>> {
    let Some(timeline) = timeline else { return program.run(argument) };
    let (outputs, events) = program.run_traced(argument)?;
    let after = timeline.iter().map(|e| e.start_us + e.duration_us).fold(0.0, f64::max);
    timeline.extend(events.into_iter().map(|e| TraceEvent { start_us: e.start_us + after, ..e }));
    Ok(outputs)
}

/// A program that copies a cache [b,h,s,d] into one with `room` rows.
fn growth(device: &dyn Device, options: &EngineOptions, ty: &TensorType, room: usize) -> Result<Program> {
    let t = Trace::new("grow");
    let old = t.input("old", Role::State, ty.clone());
    let more = room.saturating_sub(old.dim(2));
    t.output("new", &old.pad(0.0, [0; 4], [0, 0, more, 0], [0; 4]));
    Program::compile(device, t.finish()?, &compile_options(options), |name, ty, _| {
        Err(Error::Setting(format!("'{name}' {ty} is no parameter")))
    })
}

/// Features at the rows that they belong to, zeros elsewhere.
fn scattered(features: &[f32], places: &[Option<usize>], hidden: usize) -> Result<Vec<f32>> {
    let mut rows = vec![0.0; places.len() * hidden];
    for (row, place) in rows.chunks_exact_mut(hidden).zip(places) {
        let Some(i) = place else { continue };
        let from = i.checked_mul(hidden).and_then(|at| features.get(at..at + hidden));
        let from = from.ok_or_else(|| {
            Error::Setting(format!("the encoders gave {} rows, row {i} is needed", features.len() / hidden))
        })?;
        row.copy_from_slice(from);
    }
    Ok(rows)
}

trait Bytes: Copy {
    fn bytes(self) -> [u8; 4];
}

impl Bytes for i32 {
    fn bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Bytes for f32 {
    fn bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

fn le_bytes<T: Bytes>(values: &[T]) -> Vec<u8> {
    values.iter().flat_map(|v| v.bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
