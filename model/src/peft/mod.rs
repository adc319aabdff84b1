//! Low-rank adapters as the PEFT library saves them, over a checkpoint.
//!
//! What a linear layer with a matrix W [n,k] computes becomes y = G (W x) + B A x + b, where A [r,k] and B
//! [n,r] hold the matrices of all its adapters one below the other, B times their factors. G and b are there
//! with DoRA and with biases of B only. A table is a matrix whose rows are looked up, and then G scales its
//! columns.

mod checks;
mod config;
mod fold;
mod initial;
mod locate;
mod names;
mod stacks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use percept_graph::{DType, TensorType};

use crate::checkpoint::{Checkpoint, LoadOptions};
use crate::error::Result;
use crate::mixture::is_experts;
use checks::{doubt, incomplete, open_tensors};
use config::{Initial, LoraConfig, Tokens, ends_with};
use fold::Folded;
use names::{Part, parse};
use stacks::{OfExperts, Stack};

pub(crate) use config::FILE;
pub(crate) use fold::{floats, suffix};
pub use locate::{Located, locate, locate_adapter};
pub use names::PeftNames;
pub use stacks::in_peft_form;

/// The file of an adapter's tensors.
const TENSORS: &str = "adapter_model.safetensors";

/// What an adapter is.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFacts {
    /// Its folder.
    pub path: PathBuf,
    /// What it adds is multiplied by this.
    pub weight: f64,
    /// Numbers in its file.
    pub parameters: usize,
    /// The matrices that it adds to.
    pub adapted: Vec<String>,
    /// The tensors that it replaces, whole or some of their rows.
    pub replaced: Vec<String>,
}

/// Adapters over a checkpoint, in the order in which they act.
pub(crate) struct Overlay {
    names: PeftNames,
    adapters: Vec<Opened>,
    /// Low-rank additions, by the names of the matrices that they stand beside.
    low_rank: BTreeMap<String, Vec<LowRank>>,
    /// Tensors that replace the checkpoint's: for everyone who reads them, and for the modules of their names
    /// alone.
    base: BTreeMap<String, Source>,
    own: BTreeMap<String, Source>,
    /// New rows of tables.
    rows: BTreeMap<String, Rows>,
    /// The name that the head has where it was the table and is no more.
    head: Option<String>,
    folded: Mutex<BTreeMap<String, Arc<Folded>>>,
    /// Why an adapter may not belong to this base.
    doubts: Vec<String>,
}

/// An adapter's files.
struct Opened {
    folder: PathBuf,
    tensors: Checkpoint,
    weight: f64,
}

/// A tensor of an adapter.
#[derive(Clone)]
struct Source {
    adapter: usize,
    tensor: String,
}

/// New rows of a table.
struct Rows {
    source: Source,
    ids: Vec<usize>,
    /// Of a head that is the table too.
    shared: bool,
}

/// One adapter's addition to one matrix.
#[derive(Clone)]
struct LowRank {
    adapter: usize,
    rank: usize,
    /// Whether it is a table's: then A and B are those of the transposed matrix.
    table: bool,
    down: String,
    up: String,
    bias: Option<String>,
    magnitude: Option<String>,
    /// alpha over the rank, or over its root.
    scale: f64,
    initial: Initial,
    /// Of what stands beside a stack of experts: then A, B and the rank are each expert's.
    stack: Option<Stack>,
}

impl Overlay {
    /// Nothing over a checkpoint.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        Self {
            names: PeftNames::new(checkpoint),
            adapters: Vec::new(),
            low_rank: BTreeMap::new(),
            base: BTreeMap::new(),
            own: BTreeMap::new(),
            rows: BTreeMap::new(),
            head: None,
            folded: Mutex::default(),
            doubts: Vec::new(),
        }
    }

    /// Put one more adapter over it.
    ///
    /// # Errors
    /// When the folder is no adapter, asks for what is not done here, or has a tensor that fits nothing in
    /// the checkpoint.
    pub fn add(&mut self, checkpoint: &Checkpoint, folder: &Path, weight: f64) -> Result<()> {
        let folder = locate::folder_of(folder);
        let config = LoraConfig::read(&folder)?;
        let tensors = open_tensors(&folder)?;
        let mut modules: BTreeMap<String, BTreeMap<Part, String>> = BTreeMap::new();
        let mut experts = OfExperts::default();
        for name in tensors.names() {
            let Some((module, part)) = parse(name) else {
                return Err(config
                    .error(format!("tensor '{name}' of {TENSORS} is none that PEFT 0.21 saves for LoRA")));
            };
            if experts.take((&config, &self.names), (&module, part), name)? {
                continue;
            }
            if let Some(other) = modules.entry(module).or_default().insert(part, name.to_string()) {
                let why = format!(
                    "'{other}' and '{name}' of {TENSORS} are the same part: it holds several adapters"
                );
                return Err(config.error(why));
            }
        }
        if tensors.names().len() == 0 {
            return Err(config.error(format!("{TENSORS} holds no tensors")));
        }
        self.doubts.extend(doubt(checkpoint, &folder, &config)?);
        let named = modules.keys().cloned().chain(experts.modules());
        self.doubts.extend(incomplete(checkpoint, &folder, &config, &named.collect()));
        let adapter = Adding { at: self.adapters.len(), config, checkpoint, tensors: &tensors, weight };
        adapter.check_complete(&modules, &self.names)?;
        for (module, parts) in &modules {
            self.add_module(&adapter, module, parts)?;
        }
        for (name, addition) in experts.additions(&adapter, &self.names)? {
            self.low_rank.entry(name).or_default().push(addition);
        }
        self.tie(&adapter)?;
        self.adapters.push(Opened { folder, tensors, weight });
        Ok(())
    }

    fn add_module(&mut self, a: &Adding, module: &str, parts: &BTreeMap<Part, String>) -> Result<()> {
        for (part, tensor) in parts {
            let source = Source { adapter: a.at, tensor: tensor.clone() };
            match part {
                Part::Whole | Part::Base => self.add_whole(a, module, *part, source)?,
                Part::Rows => self.add_rows(a, module, source)?,
                _ => {}
            }
        }
        let halves = [(Part::Down, Part::Up), (Part::TableDown, Part::TableUp)];
        for (down, up) in halves {
            let table = down == Part::TableDown;
            let (down, up) = match (parts.get(&down), parts.get(&up)) {
                (None, None) => continue,
                (Some(down), Some(up)) => (down.clone(), up.clone()),
                (Some(one), None) | (None, Some(one)) => {
                    let has_down = one.contains("lora_A") || one.contains("lora_embedding_A");
                    let other = if has_down { one.replace("_A", "_B") } else { one.replace("_B", "_A") };
                    return Err(a
                        .config
                        .error(format!("{TENSORS} has '{one}' and not its other half '{other}'")));
                }
            };
            let (target, dims) = self.target(a, module, &down)?;
            // The output of PyTorch's own attention goes with the attention.
            let named = match down.contains(".base_layer.out_proj.") {
                true => module.strip_suffix(".out_proj").unwrap_or(module),
                false => module,
            };
            // A head that is to be tied to the table has adapters without being listed.
            if !(a.config.tied && self.names.is_tied_head(module)) {
                a.config.check_target(named)?;
            }
            let [n, k] = dims;
            let (inputs, outputs) = if table { (n, k) } else { (k, n) };
            let shapes = [a.ty(&down)?, a.ty(&up)?];
            let rank = shapes[0].dims.first().copied().unwrap_or(0);
            let fits = |ty: &TensorType, rows: usize, columns: usize| {
                ty.dims.first() == Some(&rows)
                    && rows.checked_mul(columns) == Some(ty.numel())
                    && ty.numel() > 0
            };
            if !fits(&shapes[0], rank, inputs) || !fits(&shapes[1], outputs, rank) {
                return Err(a.config.error(format!(
                    "'{down}' {} and '{up}' {} do not fit '{target}' [{n}, {k}]: another base, or a damaged adapter",
                    shapes[0], shapes[1]
                )));
            }
            let vector = |part: Part, asked: bool, length: usize, what: &str| -> Result<Option<String>> {
                match parts.get(&part) {
                    None if asked => Err(a.config.error(format!("{TENSORS} has no {what} for '{module}'"))),
                    Some(name) if !asked => {
                        Err(a.config.error(format!("'{name}' is there, and {what} is not asked for")))
                    }
                    Some(name) if a.ty(name)?.numel() != length => {
                        Err(a.config.error(format!("'{name}' {} is not {length} values", a.ty(name)?)))
                    }
                    other => Ok(other.cloned()),
                }
            };
            let low_rank = LowRank {
                adapter: a.at,
                rank,
                table,
                bias: vector(Part::Bias, a.config.lora_bias && !table, n, "the bias of B (lora_bias)")?,
                magnitude: vector(
                    Part::Magnitude,
                    a.config.dora,
                    outputs,
                    "lora_magnitude_vector (use_dora)",
                )?,
                // PEFT adds to the output of PyTorch's own attention twice, in training too.
                scale: a.config.scale(named, rank)? * if named == module { 1.0 } else { 2.0 },
                // Tables begin at zero whatever the file says, as in PEFT.
                initial: if table { Initial::Plain } else { a.config.initial },
                down,
                up,
                stack: None,
            };
            let is_matrix = a.checkpoint.ty(&target).is_none_or(|ty| ty.rank() == 2);
            if low_rank.initial != Initial::Plain && !is_matrix {
                return Err(a.config.error(format!(
                    "'init_lora_weights' takes something out of '{target}', which is a convolution; PEFT does that to \
                     linear layers only"
                )));
            }
            let all = self.low_rank.entry(target.clone()).or_default();
            if let Some(other) = all.iter().find(|l| l.adapter == a.at) {
                let why = format!("'{}' and '{}' both adapt '{target}'", other.down, low_rank.down);
                return Err(a.config.error(why));
            }
            all.push(low_rank);
        }
        for part in [Part::Bias, Part::Magnitude] {
            let alone = !parts.keys().any(|p| matches!(p, Part::Down | Part::TableDown));
            if let Some(name) = parts.get(&part).filter(|_| alone) {
                return Err(a.config.error(format!("'{name}' of {TENSORS} has no A and B beside it")));
            }
        }
        Ok(())
    }

    /// The matrix of a module, and its rows and columns.
    fn target(&self, a: &Adding, module: &str, tensor: &str) -> Result<(String, [usize; 2])> {
        let (name, ty) = if self.names.is_tied_head(module) {
            (self.head_name(), self.names.table().and_then(|t| a.checkpoint.ty(t)))
        } else {
            let found = self.names.matrix(module);
            (found.unwrap_or_default().to_string(), found.and_then(|name| a.checkpoint.ty(name)))
        };
        let Some(ty) = ty.filter(|ty| ty.rank() >= 2) else {
            let why = format!(
                "its tensor '{tensor}' adapts '{module}', and {} has no such layer; is this the base that it was trained on?",
                a.checkpoint.path().display()
            );
            return Err(a.config.error(why));
        };
        let n = ty.dims[0];
        Ok((name, [n, ty.numel().checked_div(n).unwrap_or(0)]))
    }

    fn add_whole(&mut self, a: &Adding, name: &str, part: Part, source: Source) -> Result<()> {
        let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
        let head = self.names.is_tied_head(module).then(|| self.head_name());
        let Some(target) = head.clone().or_else(|| self.names.tensor(name).map(str::to_string)) else {
            let why = format!(
                "its tensor '{}' replaces no tensor of {}; is this the base that it was trained on?",
                source.tensor,
                a.checkpoint.path().display()
            );
            return Err(a.config.error(why));
        };
        a.only_unweighted(&source.tensor)?;
        // A copy of a module is read by that module. What is not copied is the model's own, and so is what is
        // tied.
        let copied = part == Part::Whole && a.config.whole.iter().any(|m| covers(m, name)) && !a.config.tied;
        let (map, target) = match (copied, &head, self.names.table()) {
            (true, ..) => (&mut self.own, target),
            (false, Some(_), Some(table)) => (&mut self.base, table.to_string()),
            (false, ..) => (&mut self.base, target),
        };
        match map.get(&target) {
            Some(other) if other.adapter == a.at => Ok(()),
            Some(_) => Err(a
                .config
                .error(format!("'{}' replaces '{target}', which another adapter replaces", source.tensor))),
            None => {
                map.insert(target, source);
                Ok(())
            }
        }
    }

    fn add_rows(&mut self, a: &Adding, module: &str, source: Source) -> Result<()> {
        let ids = match &a.config.tokens {
            Some(Tokens::OfTable(ids)) => ids,
            Some(Tokens::ByName(all)) => {
                let found = all.iter().find(|(name, _)| ends_with(module, name));
                let why = || format!("'trainable_token_indices' has no tokens for '{}'", source.tensor);
                found.ok_or_else(|| a.config.error(why()))?.1
            }
            None => {
                return Err(a
                    .config
                    .error(format!("'{}' is there, and no trainable_token_indices", source.tensor)));
            }
        };
        a.only_unweighted(&source.tensor)?;
        let (target, [n, k]) = self.target(a, module, &source.tensor)?;
        let ty = a.ty(&source.tensor)?;
        if ty.dims != [ids.len(), k] {
            let why = format!("'{}' {ty} is not {} rows of {k}", source.tensor, ids.len());
            return Err(a.config.error(why));
        }
        if let Some(id) = ids.iter().find(|id| **id >= n) {
            return Err(a
                .config
                .error(format!("'trainable_token_indices' has {id}, and '{target}' has {n} rows")));
        }
        // A head that is the table gets its new rows too, unless it has some of its own.
        let own_of_head = matches!(&a.config.tokens, Some(Tokens::ByName(all))
            if all.iter().any(|(name, other)| self.names.is_tied_head(name) && other != ids));
        let rows = Rows { source, ids: ids.clone(), shared: !own_of_head };
        if self.rows.insert(target.clone(), rows).is_some() {
            return Err(a.config.error(format!("two adapters have new rows for '{target}'")));
        }
        Ok(())
    }

    /// Give a head that is the table a name of its own where the two are no more the same, or the table's
    /// additions.
    fn tie(&mut self, a: &Adding) -> Result<()> {
        let Some(table) = self.names.table().map(str::to_string) else { return Ok(()) };
        let head = self.head_name();
        let of_adapter = |all: &BTreeMap<String, Vec<LowRank>>, name: &str| -> Vec<LowRank> {
            all.get(name).into_iter().flatten().filter(|l| l.adapter == a.at).cloned().collect()
        };
        let changed = of_adapter(&self.low_rank, &table);
        if a.config.tied && !changed.is_empty() && of_adapter(&self.low_rank, &head).is_empty() {
            if a.config.dora {
                let why = "'ensure_weight_tying' with 'use_dora' on the table is not done here; merge the adapter with PEFT";
                return Err(a.config.error(why.into()));
            }
            self.low_rank.entry(head.clone()).or_default().extend(changed);
        }
        let apart = self.low_rank.contains_key(&head)
            || self.low_rank.contains_key(&table)
            || [&head, &table].iter().any(|name| self.own.contains_key(*name))
            || self.rows.contains_key(&head)
            || self.rows.get(&table).is_some_and(|r| !r.shared);
        if apart {
            self.head = Some(head);
        }
        Ok(())
    }

    fn head_name(&self) -> String {
        let whisper = self.names.table().is_some_and(|t| t.contains("decoder."));
        if whisper { "proj_out.weight" } else { "lm_head.weight" }.into()
    }

    /// What there is over the checkpoint, in the order in which it acts.
    pub fn facts(&self) -> Vec<AdapterFacts> {
        let facts = |(at, opened): (usize, &Opened)| {
            let parameters = |name| opened.tensors.ty(name).map_or(0, TensorType::numel);
            let own = self.low_rank.iter().filter(|(_, all)| all.iter().any(|l| l.adapter == at));
            AdapterFacts {
                path: opened.folder.clone(),
                weight: opened.weight,
                parameters: opened.tensors.names().map(parameters).sum(),
                adapted: own.map(|(name, _)| name.clone()).collect(),
                replaced: [&self.own, &self.base]
                    .iter()
                    .flat_map(|map| map.iter().filter(|(_, s)| s.adapter == at).map(|(name, _)| name.clone()))
                    .chain(
                        self.rows
                            .iter()
                            .filter(|(_, r)| r.source.adapter == at)
                            .map(|(name, _)| name.clone()),
                    )
                    .collect(),
            }
        };
        self.adapters.iter().enumerate().map(facts).collect()
    }

    /// Why an adapter may not belong to this base.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// Whether the head has this name because an adapter parts it from the table.
    pub fn is_new_head(&self, name: &str) -> bool {
        self.head.as_deref() == Some(name)
    }

    /// The rank of what is added to a linear layer or a table, and what it is multiplied by.
    pub fn adapter(&self, layer: &str) -> Option<(usize, f64)> {
        let (_, all) = self.beside(layer)?;
        let scale = self.single(all).map_or(1.0, |one| one.scale * self.adapters[one.adapter].weight);
        Some((height(all), scale))
    }

    /// The matrix of a linear layer, or the stack of experts of this name, and what is added to it.
    fn beside(&self, layer: &str) -> Option<(&str, &[LowRank])> {
        let names = [format!("{layer}.weight"), layer.to_string()];
        let (name, all) = names.iter().find_map(|name| self.low_rank.get_key_value(name))?;
        Some((name, all))
    }

    /// Whether the products of a layer are scaled, and whether something is added to them.
    pub fn extras(&self, layer: &str) -> (bool, bool) {
        let all = self.low_rank.get(&format!("{layer}.weight"));
        let any = |f: fn(&LowRank) -> bool| all.is_some_and(|all| all.iter().any(f));
        (any(|l| l.magnitude.is_some()), any(|l| l.bias.is_some()))
    }

    /// Whether a low-rank addition changes this tensor.
    pub fn adapts(&self, name: &str) -> bool {
        self.low_rank.contains_key(name)
    }

    /// Every tensor that is not as in the checkpoint.
    pub fn changed(&self) -> BTreeSet<&str> {
        let replaced = self.own.keys().chain(self.base.keys()).chain(self.rows.keys());
        let all = self.low_rank.keys().chain(replaced).chain(&self.head);
        all.map(String::as_str).collect()
    }

    /// The only adapter to a matrix, where it leaves the base as it is.
    fn single<'a>(&self, all: &'a [LowRank]) -> Option<&'a LowRank> {
        match all {
            [one] if one.magnitude.is_none() && one.initial == Initial::Plain => Some(one),
            _ => None,
        }
    }
}

/// The tensors of an adapter as f32 under the names of its base; those beside experts as graphs have them, A
/// [experts,r,k] and B [experts,n,r].
///
/// # Errors
/// When the file cannot be read, or what stands beside experts does not fit the base.
pub fn adapter_tensors(folder: &Path, base: &Checkpoint) -> Result<Checkpoint> {
    let options = LoadOptions { dtype: Some(DType::F32), dequantize: true };
    let file = Checkpoint::open_with(folder.join(TENSORS), options)?;
    let names = PeftNames::new(base);
    if !base.names().any(is_experts) {
        return Ok(file.renamed(|name| names.of_file(name)));
    }
    let mut overlay = Overlay::new(base);
    overlay.add(base, folder, 1.0)?;
    let mut beside = Vec::new();
    let mut sources = BTreeSet::new();
    for (name, all) in overlay.low_rank.iter().filter(|(name, _)| is_experts(name)) {
        sources.extend(all.iter().flat_map(LowRank::sources).map(str::to_string));
        for part in [suffix::DOWN, suffix::UP] {
            let name = format!("{name}{part}");
            if let Some(tensor) = overlay.weight(base, &name)? {
                beside.push((name, tensor.ty.clone(), tensor.bytes().to_vec()));
            }
        }
    }
    let rest = file.without(|name| sources.contains(name)).renamed(|name| names.of_file(name));
    Ok(rest.with_tensors("adapters of experts", beside)?)
}

/// The table of a checkpoint whose head it is too; `None` where there is a head, or no table.
pub fn tied_table(checkpoint: &Checkpoint) -> Option<String> {
    PeftNames::new(checkpoint).table().map(str::to_string)
}

/// Rows of A of all adapters to a matrix.
fn height(all: &[LowRank]) -> usize {
    all.iter().map(|l| if l.initial == Initial::Plain { l.rank } else { 2 * l.rank }).sum()
}

impl LowRank {
    /// The tensors of the file that A and B are made of.
    fn sources(&self) -> Vec<&str> {
        let own = self.stack.as_ref().map(Stack::sources).unwrap_or_default();
        if own.is_empty() { vec![&self.down, &self.up] } else { own }
    }
}

/// An adapter that is being put over a checkpoint.
struct Adding<'a> {
    at: usize,
    config: LoraConfig,
    checkpoint: &'a Checkpoint,
    tensors: &'a Checkpoint,
    weight: f64,
}

impl Adding<'_> {
    fn ty(&self, tensor: &str) -> Result<TensorType> {
        let missing = || self.config.error(format!("{TENSORS} has no tensor '{tensor}'"));
        self.tensors.ty(tensor).cloned().ok_or_else(missing)
    }

    /// An error where a module that is to be in the file is not.
    fn check_complete(
        &self,
        modules: &BTreeMap<String, BTreeMap<Part, String>>,
        names: &PeftNames,
    ) -> Result<()> {
        let whole =
            |m: &str| modules.iter().any(|(name, parts)| parts.contains_key(&Part::Whole) && covers(m, name));
        if let Some(missing) = self.config.whole.iter().find(|m| !whole(m)) {
            let why = format!("'modules_to_save' names '{missing}', of which {TENSORS} has no tensor");
            return Err(self.config.error(why));
        }
        let with_rows =
            modules.iter().filter(|(_, parts)| parts.contains_key(&Part::Rows)).map(|(name, _)| name);
        let missing = match &self.config.tokens {
            None => None,
            Some(Tokens::OfTable(_)) => with_rows.clone().next().is_none().then_some("the table"),
            // What is tied to a table is in the file once.
            Some(Tokens::ByName(all)) => {
                let other = |name: &str| all.len() > 1 && names.is_tied_head(name);
                let found = |end: &str| with_rows.clone().any(|name| ends_with(name, end));
                all.keys().map(String::as_str).find(|name| !found(name) && !other(name))
            }
        };
        match missing {
            None => Ok(()),
            Some(name) => Err(self
                .config
                .error(format!("'trainable_token_indices' has rows for '{name}', and {TENSORS} has none"))),
        }
    }

    fn only_unweighted(&self, tensor: &str) -> Result<()> {
        if self.weight == 1.0 {
            return Ok(());
        }
        let why = format!(
            "'{tensor}' replaces what the model has, so that the adapter has no weight {}; leave it out",
            self.weight
        );
        Err(self.config.error(why))
    }
}

/// Whether an entry of `modules_to_save` means a module that the tensor is in, or the tensor itself: PEFT
/// compares the ends of names, in the middle of a part too.
fn covers(entry: &str, tensor: &str) -> bool {
    tensor.ends_with(entry) || tensor.match_indices('.').any(|(dot, _)| tensor[..dot].ends_with(entry))
}

#[cfg(test)]
mod tests;
