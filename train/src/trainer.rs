//! A model being trained on a device.

mod extent;
mod saved;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use percept_graph::{DType, Graph, HostTensor, Role, TensorType};
use percept_hal::{Buffer, CompileOptions, CompileReport, Device, OpTiming};
use percept_infer::Program;
use percept_model::checkpoint::{Base, Checkpoint, LoadOptions};
use percept_model::random::parameter_stream;
use percept_model::{
    CausalModel, DROPOUT_KEY, DROPOUT_SHARE, Model, TrainedParameters as _, Weights, is_experts, open_weights,
};
use rand_chacha::rand_core::RngCore as _;

use crate::adapter::{self, Below, Form};
use crate::batch::{Batch, Shape};
use crate::communicator::Communicator;
use crate::config::{Config, Onward};
use crate::diagnose;
use crate::error::{Error, Result};
use crate::forward::{Purpose, forward};
use crate::initial;
use crate::optimizer::{mean_name, state_name};
use crate::plan::{SharedPlan, TrainingPlan};
use crate::router::{Loads, RouterReport};
use crate::state::State;
use crate::steps::{Differentiated, TrainedTypes, scaled, sum_name, update_graph};

/// A model, its optimizer and the programs of its steps on one device.
pub struct Trainer {
    device: Arc<dyn Device>,
    options: CompileOptions,
    config: Config,
    model: Arc<dyn CausalModel>,
    plan: SharedPlan,
    state: State,
    trained: TrainedTypes,
    programs: HashMap<Key, Program>,
    /// The adapter that training goes on with.
    begun: Option<Checkpoint>,
    /// The adapter that stays as it is under the trained one.
    below: Option<Below>,
    /// What an adapter's folder says of the base.
    base: Option<Base>,
    /// Updates that changed something.
    updates: u64,
    scale: LossScale,
    timeline: Option<Vec<OpTiming>>,
}

/// What a compiled program is for; programs are kept by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Accumulate(Shape),
    /// With the number of trained parameters that it updates.
    Fused(Shape, usize),
    Update(usize),
    Evaluate(Shape),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss of the answer tokens.
    pub loss: f64,
    /// Norm of the gradients before they were clipped.
    pub norm: f64,
    /// How rows were spread over experts, in a model that has some.
    pub router: Option<RouterReport>,
    /// The gradients overflowed in f16: nothing was changed and the loss scale was halved.
    pub skipped: bool,
}

/// What the loss is multiplied by in f16: halved when gradients overflow, doubled when they have not for
/// long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    /// What the loss is multiplied by.
    pub value: f64,
    /// Steps since it changed.
    pub steady: u64,
}

/// What a batch of held-out data gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Sum of the losses of all answer tokens.
    pub loss: f64,
    /// For each sample, whether each of its answer tokens was the most likely one.
    pub right: Vec<Vec<bool>>,
}

impl Trainer {
    /// Open the model of a run on a device.
    ///
    /// # Errors
    /// When the checkpoint cannot be opened or continues no text, or a pattern of the run matches no
    /// parameter.
    pub fn new(config: &Config, device: Arc<dyn Device>, options: CompileOptions) -> Result<Self> {
        let checkpoint = Arc::new(initial::open(config)?);
        let plan = TrainingPlan::new(config, &checkpoint, &*causal(Weights::new(checkpoint.clone()))?)?;
        let from = config.lora.as_ref().and_then(|l| Some((l.from, l.path.as_deref()?)));
        let (mut begun, mut below) = (None, None);
        match from {
            Some((Onward::Stack, path)) => below = Some(Below::open(path, checkpoint.clone())?),
            Some((_, path)) => {
                let own = Form::read(path, checkpoint.clone())?;
                own.check(path, &Form::planned(&plan, &checkpoint))?;
                begun = Some(adapter::read(path, &checkpoint)?);
            }
            None => {}
        }
        let checkpoint = match &below {
            Some(below) => Arc::new(below.merged(checkpoint)?),
            None => checkpoint,
        };
        let outer = {
            let model = causal(Weights::new(checkpoint.clone()))?;
            [model.decoder().table.clone(), model.decoder().head.clone()]
        };
        let plan = Arc::new(plan.with_outer(outer, &checkpoint)?);
        let model = causal(Weights::new(checkpoint).for_training(plan.clone()))?.into();
        let scale = LossScale { value: config.precision.loss_scale, steady: 0 };
        Ok(Self {
            device,
            options,
            config: config.clone(),
            model,
            plan,
            state: State::default(),
            trained: TrainedTypes::new(),
            programs: HashMap::new(),
            begun,
            below,
            base: None,
            updates: 0,
            scale,
            timeline: None,
        })
    }

    /// The model; its weights are those that it began with.
    pub fn model(&self) -> &dyn CausalModel {
        &*self.model
    }

    /// A handle to the model that outlives a borrow of the trainer.
    pub fn shared_model(&self) -> Arc<dyn CausalModel> {
        self.model.clone()
    }

    /// A handle to the device.
    pub fn shared_device(&self) -> Arc<dyn Device> {
        self.device.clone()
    }

    /// What runs what the device cannot.
    pub fn host(&self) -> Option<Arc<dyn Device>> {
        self.options.host.clone()
    }

    /// The model with what [`crate::run`] wrote to a folder, as a user opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn finished(&self, folder: &Path) -> Result<Box<dyn CausalModel>> {
        if self.config.lora.is_none() {
            return causal(Weights::new(Arc::new(Checkpoint::open(folder)?)));
        }
        let options = LoadOptions { dtype: self.config.model.dtype, dequantize: false };
        let base = Checkpoint::open_with(self.checkpoint().path(), options)?;
        causal(Weights::new(Arc::new(base)).with_adapter(folder)?)
    }

    /// From now on say in the folders of adapters that they belong to this base.
    pub fn record_base(&mut self, base: Base) {
        self.base = Some(base);
    }

    /// Which parameters are trained.
    pub fn plan(&self) -> &TrainingPlan {
        &self.plan
    }

    /// The checkpoint that training began with.
    pub fn checkpoint(&self) -> &Checkpoint {
        self.model.weights().checkpoint()
    }

    /// The device that it trains on.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// The parameters trained so far; those of encoders appear with their first media.
    pub fn trained(&self) -> &TrainedTypes {
        &self.trained
    }

    /// Updates that changed something, and the loss scale.
    pub fn progress(&self) -> (u64, LossScale) {
        (self.updates, self.scale)
    }

    /// From now on time operations one by one, which is slower; [`Trainer::take_timeline`] gives what was
    /// timed.
    pub fn record_timeline(&mut self) {
        self.timeline.get_or_insert_default();
    }

    /// The operations timed so far.
    pub fn take_timeline(&mut self) -> Vec<OpTiming> {
        self.timeline.take().unwrap_or_default()
    }

    /// What every compilation decided.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.programs.values().map(Program::report)
    }

    /// One step over this process's batches: their gradients, summed with those of the other processes, and
    /// an update at `factor` times the learning rates. `count` is the number of answer tokens of the whole
    /// step.
    ///
    /// # Errors
    /// When a trained parameter has no gradient, the device fails, or another process does.
    pub fn step(
        &mut self,
        batches: &[Batch],
        count: usize,
        factor: f64,
        peers: &dyn Communicator,
    ) -> Result<StepReport> {
        let scalars = self.scalars(count, factor)?;
        let report = match batches {
            [batch] if peers.size() == 1 => {
                let key = self.prepare_fused(batch)?;
                let mut arguments = self.upload(&batch.arrays)?;
                arguments.extend(scalars);
                arguments.extend(self.dropout(peers.rank(), 0)?);
                let outputs = self.state.run(&self.programs[&key], &arguments, self.timeline.as_mut())?;
                let mut loads = Loads::new(self.model.decoder());
                loads.add(&*self.device, &outputs)?;
                StepReport {
                    loss: self.scalar(&outputs, "loss")?,
                    norm: self.scalar(&outputs, "norm")?,
                    router: loads.report(),
                    skipped: false,
                }
            }
            _ => self.step_in_parts(batches, scalars, peers)?,
        };
        self.settle(report)
    }

    fn scalars(&self, count: usize, factor: f64) -> Result<HashMap<String, Buffer>> {
        let scalar = |value: f64| HostTensor::from_f32([], &[value as f32]);
        let mut scalars = BTreeMap::from([
            ("count".to_string(), scalar(count.max(1) as f64)?),
            ("rate".to_string(), scalar(factor)?),
            ("step".to_string(), scalar((self.updates + 1) as f64)?),
        ]);
        if scaled(&self.config) {
            scalars.insert("scale".into(), scalar(self.scale.value)?);
        }
        self.upload(&scalars)
    }

    /// The inputs of dropout for a piece of a step's batches: the same whenever and wherever a run takes this
    /// step.
    fn dropout(&self, rank: usize, piece: usize) -> Result<HashMap<String, Buffer>> {
        let share = self.config.lora.as_ref().map_or(0.0, |l| l.dropout);
        let stream = format!("dropout {} {rank} {piece}", self.updates);
        let mut random = parameter_stream(&stream, self.config.seed);
        self.dropout_inputs(share, [random.next_u32(), random.next_u32()])
    }

    fn dropout_inputs(&self, share: f64, key: [u32; 2]) -> Result<HashMap<String, Buffer>> {
        if !self.plan.drops() {
            return Ok(HashMap::new());
        }
        let key = HostTensor::from_f64(TensorType::new(DType::U32, [2]), &key.map(f64::from))?;
        let share = HostTensor::from_f32([], &[share as f32])?;
        self.upload(&BTreeMap::from([(DROPOUT_KEY.to_string(), key), (DROPOUT_SHARE.to_string(), share)]))
    }

    /// Where the first value that is no finite number appears when these batches are differentiated, as the
    /// path of a module.
    ///
    /// # Errors
    /// When the device fails.
    pub fn first_not_finite(&mut self, batches: &[Batch], peers: &dyn Communicator) -> Result<String> {
        for name in self.trained.keys() {
            let Some(buffer) = self.state.0.get(name) else { continue };
            if floats(&self.device.read(buffer)?).iter().any(|v| !v.is_finite()) {
                return Ok(format!("the parameter '{name}'"));
            }
        }
        let answers = batches.iter().map(|b| b.answers).sum();
        let scalars = self.scalars(answers, 0.0)?;
        for (piece, batch) in batches.iter().enumerate() {
            let (graph, places) = diagnose::graph(self.differentiated(batch)?.graph())?;
            let program = Program::compile(&*self.device, &graph, &self.options)?;
            let mut arguments = self.upload(&batch.arrays)?;
            arguments.extend(scalars.iter().map(|(n, b)| (n.clone(), b.clone())));
            arguments.extend(self.dropout(peers.rank(), piece)?);
            let outputs = self.state.run(&program, &arguments, self.timeline.as_mut())?;
            if let Some(place) = diagnose::first(&places, |name| self.scalar(&outputs, name))? {
                return Ok(place);
            }
        }
        Ok("the update".into())
    }

    /// Gradients batch by batch, their sum over all processes, one update.
    fn step_in_parts(
        &mut self,
        batches: &[Batch],
        scalars: HashMap<String, Buffer>,
        peers: &dyn Communicator,
    ) -> Result<StepReport> {
        let mut loss = 0.0;
        let mut loads = Loads::new(self.model.decoder());
        for (piece, batch) in batches.iter().enumerate() {
            let key = self.prepare_accumulate(batch)?;
            self.begin_sums()?;
            let mut arguments = self.upload(&batch.arrays)?;
            arguments.extend(scalars.iter().map(|(n, b)| (n.clone(), b.clone())));
            arguments.extend(self.dropout(peers.rank(), piece)?);
            let outputs = self.state.run(&self.programs[&key], &arguments, self.timeline.as_mut())?;
            loss += self.scalar(&outputs, "loss")?;
            loads.add(&*self.device, &outputs)?;
        }
        if peers.size() > 1 {
            let mut total = [loss as f32];
            peers.sum(&mut total)?;
            loss = total[0] as f64;
            loads.sum(peers)?;
            self.agree_on_trained(peers)?;
            for name in self.trained.keys().map(|n| sum_name(n)).collect::<Vec<_>>() {
                let Some(buffer) = self.state.0.remove(&name) else { continue };
                let mut values = floats(&self.device.read(&buffer)?);
                peers.sum(&mut values)?;
                let summed = self.device.upload(buffer.ty(), bytemuck::cast_slice(&values))?;
                self.state.0.insert(name, summed);
            }
        }
        let key = Key::Update(self.trained.len());
        if !self.programs.contains_key(&key) {
            let graph = update_graph(&self.trained, &self.plan, &self.config)?;
            self.compile(key.clone(), graph)?;
        }
        let outputs = self.state.run(&self.programs[&key], &scalars, self.timeline.as_mut())?;
        let norm = self.scalar(&outputs, "norm")?;
        Ok(StepReport { loss, norm, router: loads.report(), skipped: false })
    }

    /// Count an update, or take the loss scale back after an overflow.
    fn settle(&mut self, mut report: StepReport) -> Result<StepReport> {
        if report.norm.is_finite() {
            self.updates += 1;
            self.scale.steady += 1;
            if scaled(&self.config) && self.scale.steady >= self.config.precision.loss_scale_steps {
                self.scale = LossScale { value: self.scale.value * 2.0, steady: 0 };
            }
        } else if scaled(&self.config) && report.loss.is_finite() && self.scale.value > 1.0 {
            report.skipped = true;
            self.scale = LossScale { value: self.scale.value / 2.0, steady: 0 };
        }
        Ok(report)
    }

    /// Measure a held-out batch.
    ///
    /// # Errors
    /// When the device fails.
    pub fn measure(&mut self, batch: &Batch) -> Result<Measured> {
        let key = Key::Evaluate(batch.shape.clone());
        if !self.programs.contains_key(&key) {
            let graph = forward(&*self.model, &batch.shape, &batch.runs, Purpose::Evaluate)?;
            self.take_parameters(&graph)?;
            let graph = match self.config.precision.compute {
                DType::F32 => graph,
                half => percept_graph::passes::mixed_precision(&graph, half)?,
            };
            self.compile(key.clone(), graph)?;
        }
        let mut arguments = self.upload(&batch.arrays)?;
        let one = HostTensor::from_f32([], &[1.0])?;
        arguments.insert("count".into(), self.device.upload(one.ty(), one.bytes())?);
        arguments.extend(self.dropout_inputs(0.0, [0, 0])?);
        if self.config.optimizer.ema > 0.0 {
            let means =
                self.trained.keys().filter_map(|n| Some((n.clone(), self.state.0.get(&mean_name(n))?)));
            arguments.extend(means.map(|(n, b)| (n, b.clone())).collect::<Vec<_>>());
        }
        let outputs = self.state.run(&self.programs[&key], &arguments, self.timeline.as_mut())?;
        let losses = floats(&self.device.read(&outputs["losses"])?);
        let right = self.device.read(&outputs["right"])?;
        let right: Vec<bool> = right.chunks_exact(4).map(|b| b != [0; 4]).collect();
        Ok(Measured {
            loss: losses.iter().map(|&l| l as f64).sum(),
            right: batch.places.iter().map(|places| places.iter().map(|&p| right[p]).collect()).collect(),
        })
    }

    /// The trained parameters whose first update found nothing but zeros as their gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn without_gradient(&self) -> Result<Vec<String>> {
        let mut without = Vec::new();
        for name in self.trained.keys() {
            // B of an adapter is 0 at first, so the gradient of A is too.
            if name.ends_with(".lora_A.weight") {
                continue;
            }
            let Some(ty) = self.trained.get(name) else { continue };
            let kept = self.plan.group(name, ty).kind.optimizer().state().first();
            let Some(kept) = kept.and_then(|s| self.state.0.get(&state_name(s, name))) else { continue };
            if floats(&self.device.read(kept)?).iter().all(|&v| v == 0.0) {
                without.push(name.clone());
            }
        }
        Ok(without)
    }

    fn prepare_accumulate(&mut self, batch: &Batch) -> Result<Key> {
        let key = Key::Accumulate(batch.shape.clone());
        if !self.programs.contains_key(&key) {
            let graph = self.differentiated(batch)?.accumulate()?;
            self.compile(key.clone(), graph)?;
        }
        Ok(key)
    }

    fn prepare_fused(&mut self, batch: &Batch) -> Result<Key> {
        let key = Key::Fused(batch.shape.clone(), self.trained.len());
        if self.programs.contains_key(&key) {
            return Ok(key);
        }
        let differentiated = self.differentiated(batch)?;
        let key = Key::Fused(batch.shape.clone(), self.trained.len());
        let graph = differentiated.fused(&self.trained, &self.plan, &self.config)?;
        self.compile(key.clone(), graph)?;
        Ok(key)
    }

    /// A batch's loss with gradients, with its parameters on the device.
    fn differentiated(&mut self, batch: &Batch) -> Result<Differentiated> {
        let graph = forward(&*self.model, &batch.shape, &batch.runs, Purpose::training(&self.config))?;
        self.take_parameters(&graph)?;
        Differentiated::new(&graph, |name| self.plan.trains(name), &self.config.precision)
    }

    /// Bring parameters to the device that are not there yet, with what optimizers keep for those that are
    /// trained.
    fn take_parameters(&mut self, graph: &Graph) -> Result<()> {
        for input in graph.inputs().iter().filter(|i| i.role == Role::Parameter) {
            let (name, ty) = (&input.name, graph.ty(input.value));
            if self.plan.trains(name) {
                self.take_trained(name, ty)?;
            } else if !self.state.0.contains_key(name) {
                let buffer = self.model.weights().load(&*self.device, name, ty)?;
                self.state.0.insert(name.clone(), buffer);
            }
        }
        Ok(())
    }

    fn take_trained(&mut self, name: &str, ty: &TensorType) -> Result<()> {
        if let Some(known) = self.trained.get(name) {
            if known == ty {
                return Ok(());
            }
            return Err(Error::Setting(format!("'{name}' is {known} where training left off, now {ty}")));
        }
        let device = &*self.device;
        let begun = self.begun.as_ref().filter(|b| b.ty(name).is_some());
        let first = match self.plan.adapted(name) {
            _ if begun.is_some() => self.begun_value(name, ty)?,
            Some(_) => HostTensor::from_f32(ty.dims.clone(), &initial::adapter(name, ty, self.config.seed))?,
            None => HostTensor::new(ty.clone(), self.model.weights().fetch(name, ty)?.bytes())?,
        };
        self.state.0.insert(name.to_string(), device.upload(ty, first.bytes())?);
        for state in self.plan.group(name, ty).kind.optimizer().state() {
            self.state.0.insert(state_name(state, name), device.zeros(ty)?);
        }
        if self.config.optimizer.ema > 0.0 {
            self.state.0.insert(mean_name(name), device.upload(ty, first.bytes())?);
        }
        self.trained.insert(name.to_string(), ty.clone());
        Ok(())
    }

    /// A parameter of the adapter that training goes on with.
    fn begun_value(&self, name: &str, ty: &TensorType) -> Result<HostTensor> {
        let Some(begun) = &self.begun else { return Err(Error::Setting(format!("there is no '{name}'"))) };
        let weight = begun.weight(name)?;
        if weight.ty != *ty {
            let path = begun.path().display();
            return Err(Error::Setting(format!("'{name}' is {} in {path}, this run's is {ty}", weight.ty)));
        }
        Ok(HostTensor::new(weight.ty.clone(), weight.bytes())?)
    }

    /// Processes may see media of other kinds: all of them update the same parameters.
    fn agree_on_trained(&mut self, peers: &dyn Communicator) -> Result<()> {
        let candidates: Vec<String> = self.plan.candidates(self.checkpoint()).collect();
        let mut seen: Vec<f32> =
            candidates.iter().map(|c| self.trained.contains_key(c) as u8 as f32).collect();
        peers.sum(&mut seen)?;
        for (name, _) in candidates.iter().zip(seen).filter(|(_, s)| *s > 0.0) {
            if !self.trained.contains_key(name) {
                let dims = match self.plan.adapted(name) {
                    Some(adapter) => self.adapter_dims(name, adapter.rank),
                    None => self.checkpoint().ty(name).map(|t| t.dims.clone()),
                };
                let dims = dims.unwrap_or_default();
                self.take_trained(name, &TensorType::new(DType::F32, dims))?;
            }
        }
        self.begin_sums()
    }

    /// The extents of an adapter's matrix.
    fn adapter_dims(&self, name: &str, rank: usize) -> Option<Vec<usize>> {
        let layer = name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))?;
        let stack = Some(layer).filter(|l| is_experts(l)).and_then(|l| self.checkpoint().ty(l));
        let ty = stack.or_else(|| self.checkpoint().ty(&format!("{layer}.weight")))?;
        let (experts, matrix) = ty.dims.split_at(ty.rank().checked_sub(2)?);
        let own = if name.ends_with(".lora_A.weight") { [rank, matrix[1]] } else { [matrix[0], rank] };
        Some([experts, &own].concat())
    }

    fn begin_sums(&mut self) -> Result<()> {
        for (name, ty) in &self.trained {
            if !self.state.0.contains_key(&sum_name(name)) {
                self.state.0.insert(sum_name(name), self.device.zeros(ty)?);
            }
        }
        Ok(())
    }

    fn compile(&mut self, key: Key, graph: Graph) -> Result<()> {
        let program = Program::compile(&*self.device, &graph, &self.options)?;
        self.programs.insert(key, program);
        Ok(())
    }

    fn upload(&self, arrays: &BTreeMap<String, HostTensor>) -> Result<HashMap<String, Buffer>> {
        arrays.iter().map(|(n, t)| Ok((n.clone(), self.device.upload(t.ty(), t.bytes())?))).collect()
    }

    fn scalar(&self, outputs: &BTreeMap<String, Buffer>, name: &str) -> Result<f64> {
        let missing = || Error::Setting(format!("the step has no output '{name}'"));
        let bytes = self.device.read(outputs.get(name).ok_or_else(missing)?)?;
        Ok(floats(&bytes).first().map_or(f64::NAN, |&v| v as f64))
    }
}

/// The model of weights, if it continues text.
pub(crate) fn causal(weights: Weights) -> Result<Box<dyn CausalModel>> {
    match open_weights(weights)? {
        Model::Causal(model) => Ok(model),
        _ => Err(Error::Setting(
            "only models that continue a sequence are trained; this one places or transcribes".into(),
        )),
    }
}

/// The elements of an f32 tensor.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
