//! Adapters beside stacks of experts.
//!
//! PEFT puts a wrapper around the module that holds the stacks for each one that it adapts (`target_parameters`), the last
//! one outermost, and keeps A of all experts in one matrix [experts r, k] and B in [n, r experts], experts counting fastest.
//! Under transformers 4 experts were linear layers, and their adapters have A and B beside each expert's own matrices.
//! Graphs have A [experts,r,k] and B [experts,n,r].

use std::collections::BTreeMap;

use percept_graph::{HostTensor, HostTensorError, TensorType};

use super::config::{Initial, LoraConfig};
use super::names::{Part, PeftNames, WRAPPED};
use super::{Adding, LowRank, TENSORS};
use crate::error::Result;
use crate::mixture::EXPERT_STACKS;

/// What stands beside one stack [experts,n,k].
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub experts: usize,
    /// n and k.
    pub extent: [usize; 2],
    /// A and B beside matrices of single experts; empty where one pair is all experts'.
    singles: Vec<Single>,
}

/// A and B beside a matrix of one expert, which is some of the rows of its matrix in the stack.
#[derive(Debug, Clone)]
struct Single {
    expert: usize,
    /// Its first row there.
    row: usize,
    /// The first row of A, and column of B, among the expert's.
    first: usize,
    rank: usize,
    down: String,
    up: String,
    scale: f64,
}

/// The two halves of an addition, where they are found.
type Halves = [Option<String>; 2];

/// The tensors of an adapter that stand beside experts.
#[derive(Default)]
pub(super) struct OfExperts {
    /// By the module that holds the stacks and how many wrappers lie around it inside of this one.
    wrapped: BTreeMap<(String, usize), Halves>,
    /// By that module, the number of an expert, and one of its matrices.
    single: BTreeMap<(String, usize, String), Halves>,
}

impl OfExperts {
    /// Keep a tensor if it stands beside experts of this base.
    ///
    /// # Errors
    /// When it is what no adapter has beside experts.
    pub fn take(
        &mut self,
        (config, names): (&LoraConfig, &PeftNames),
        (module, part): (&str, Part),
        tensor: &str,
    ) -> Result<bool> {
        let are_experts = |module: &str| names.tensor(&format!("{module}.{}", EXPERT_STACKS[0])).is_some();
        let single = || {
            let (rest, matrix) = module.rsplit_once('.')?;
            let (experts, number) = rest.rsplit_once('.')?;
            Some((experts.to_string(), number.parse().ok()?, matrix.to_string()))
        };
        let single = single().filter(|(experts, ..)| are_experts(experts));
        let half = match part {
            _ if single.is_none() && !are_experts(module) => return Ok(false),
            Part::Down => 0,
            Part::Up => 1,
            // Whole tensors have names of their own.
            Part::Whole | Part::Base => return Ok(false),
            _ => {
                let why =
                    format!("'{tensor}' of {TENSORS} stands beside experts, which have A and B alone here");
                return Err(config.error(why));
            }
        };
        let halves = match single {
            Some(key) => self.single.entry(key).or_default(),
            None => {
                let before = tensor.split(".lora_").next().unwrap_or_default();
                let depth = before.rsplit('.').take_while(|p| *p == WRAPPED).count();
                self.wrapped.entry((module.to_string(), depth)).or_default()
            }
        };
        match halves[half].replace(tensor.to_string()) {
            None => Ok(true),
            Some(other) => {
                let why = format!(
                    "'{other}' and '{tensor}' of {TENSORS} are the same part: it holds several adapters"
                );
                Err(config.error(why))
            }
        }
    }

    /// The names of modules that these are, as PEFT's settings mean them.
    pub fn modules(&self) -> impl Iterator<Item = String> + Clone + '_ {
        self.single.keys().map(|(experts, number, matrix)| format!("{experts}.{number}.{matrix}"))
    }

    /// The additions, by the names of the stacks in the checkpoint.
    ///
    /// # Errors
    /// When one is not among what the settings adapt, lacks a half, or does not fit its stack.
    pub(super) fn additions(&self, a: &Adding, names: &PeftNames) -> Result<Vec<(String, LowRank)>> {
        let mut experts = self.wrapped.keys().map(|k| &k.0).chain(self.single.keys().map(|k| &k.0));
        if let Some(first) = experts.next()
            && (a.config.dora || a.config.lora_bias || a.config.initial != Initial::Plain)
        {
            let why = format!(
                "there are tensors for the experts of '{first}', and 'use_dora', 'lora_bias', or the values of \
                 'init_lora_weights' that are taken out of the base, are not done beside experts; merge the adapter with PEFT \
                 first"
            );
            return Err(a.config.error(why));
        }
        let mut all = self.of_wrappers(a, names)?;
        all.extend(self.of_single_experts(a, names)?);
        Ok(all)
    }

    fn of_wrappers(&self, a: &Adding, names: &PeftNames) -> Result<Vec<(String, LowRank)>> {
        let mut found = Vec::new();
        for ((module, depth), halves) in &self.wrapped {
            let [down, up] = both(a, halves)?;
            // Wrappers go around the stacks in the order in which the module has them.
            let parameter = |stack: &&str| a.config.targets_parameter(&format!("{module}.{stack}"));
            let targeted: Vec<&str> = EXPERT_STACKS.iter().copied().filter(parameter).collect();
            let Some(stack) = targeted.len().checked_sub(depth + 1).and_then(|at| targeted.get(at)) else {
                let why = format!(
                    "'{down}' is there, and 'target_parameters' has no parameter of '{module}' for it"
                );
                return Err(a.config.error(why));
            };
            let parameter = format!("{module}.{stack}");
            let (name, [experts, n, k]) = stack_of(a, names, &parameter, &down)?;
            let (a_ty, b_ty) = (a.ty(&down)?, a.ty(&up)?);
            let rank = a_ty.dims.first().map_or(0, |rows| rows / experts.max(1));
            let rows = experts.checked_mul(rank).unwrap_or(0);
            if rows == 0 || a_ty.dims != [rows, k] || b_ty.dims != [n, rows] {
                return Err(a.config.error(misfit(&[(&down, &a_ty), (&up, &b_ty)], &name, [experts, n, k])));
            }
            let scale = a.config.scale(&parameter, rank)?;
            let stack = Stack { experts, extent: [n, k], singles: Vec::new() };
            found.push((name, low_rank(a, (rank, scale), [down, up], stack)));
        }
        Ok(found)
    }

    fn of_single_experts(&self, a: &Adding, names: &PeftNames) -> Result<Vec<(String, LowRank)>> {
        // The ranks of gates come before those of what is beside them, for all experts of a stack alike.
        let mut highest: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut read = Vec::new();
        for ((experts, number, matrix), halves) in &self.single {
            let [down, up] = both(a, halves)?;
            let module = format!("{experts}.{number}.{matrix}");
            a.config.check_target(&module)?;
            let rank = a.ty(&down)?.dims.first().copied().unwrap_or(0);
            let most = highest.entry((experts, matrix)).or_default();
            *most = rank.max(*most);
            read.push((experts, *number, &matrix[..], rank, a.config.scale(&module, rank)?, [down, up]));
        }
        let mut stacks: BTreeMap<String, (Stack, usize)> = BTreeMap::new();
        for (experts, expert, matrix, rank, scale, [down, up]) in read {
            let of = |matrix: &str| highest.get(&(&experts[..], matrix)).copied().unwrap_or(0);
            let gates = of("gate_proj");
            let (stack, first, total) = match matrix {
                "gate_proj" => (EXPERT_STACKS[0], 0, gates + of("up_proj")),
                "up_proj" => (EXPERT_STACKS[0], gates, gates + of("up_proj")),
                "down_proj" => (EXPERT_STACKS[1], 0, of("down_proj")),
                _ => {
                    let why = format!("'{down}' of {TENSORS} adapts '{matrix}', which experts do not have");
                    return Err(a.config.error(why));
                }
            };
            let (name, [count, n, k]) = stack_of(a, names, &format!("{experts}.{stack}"), &down)?;
            let rows = if stack == EXPERT_STACKS[0] { n / 2 } else { n };
            let (a_ty, b_ty) = (a.ty(&down)?, a.ty(&up)?);
            if expert >= count || rank == 0 || a_ty.dims != [rank, k] || b_ty.dims != [rows, rank] {
                return Err(a.config.error(misfit(&[(&down, &a_ty), (&up, &b_ty)], &name, [count, n, k])));
            }
            let row = if matrix == "up_proj" { rows } else { 0 };
            let new = || (Stack { experts: count, extent: [n, k], singles: Vec::new() }, total);
            let (stack, _) = stacks.entry(name).or_insert_with(new);
            stack.singles.push(Single { expert, row, first, rank, down, up, scale });
        }
        let addition = |(name, (stack, rank)): (String, (Stack, usize))| {
            let first = stack.singles.first().map(|s| [s.down.clone(), s.up.clone()]).unwrap_or_default();
            // Each has its own factor, which is in its B.
            (name, low_rank(a, (rank, 1.0), first, stack))
        };
        Ok(stacks.into_iter().map(addition).collect())
    }
}

impl Stack {
    /// The tensors of single experts.
    pub fn sources(&self) -> Vec<&str> {
        self.singles.iter().flat_map(|s| [&s.down[..], &s.up[..]]).collect()
    }

    /// A f32[experts,rank,k] and B f32[experts,n,rank], of what `read` gives of the file.
    ///
    /// # Errors
    /// As `read`.
    pub fn halves(&self, one: &LowRank, read: impl Fn(&str) -> Result<Vec<f32>>) -> Result<[Vec<f32>; 2]> {
        let ([n, k], rank) = (self.extent, one.rank);
        if self.singles.is_empty() {
            return Ok([read(&one.down)?, apart(&read(&one.up)?, [self.experts, n, rank])]);
        }
        let mut down = vec![0.0; self.experts * rank * k];
        let mut up = vec![0.0; self.experts * n * rank];
        for single in &self.singles {
            let at = (single.expert * rank + single.first) * k;
            down[at..at + single.rank * k].copy_from_slice(&read(&single.down)?);
            let rows = read(&single.up)?;
            for (row, values) in rows.chunks_exact(single.rank).enumerate() {
                let at = (single.expert * n + single.row + row) * rank + single.first;
                for (to, value) in up[at..at + single.rank].iter_mut().zip(values) {
                    *to = (f64::from(*value) * single.scale) as f32;
                }
            }
        }
        Ok([down, up])
    }
}

/// B [n, rank experts] of PEFT's file, of which experts count fastest, as [experts,n,rank].
fn apart(file: &[f32], [experts, n, rank]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize| (i / (n * rank), i / rank % n, i % rank);
    let from = |(expert, row, r): (usize, usize, usize)| file[(row * rank + r) * experts + expert];
    (0..experts * n * rank).map(|i| from(at(i))).collect()
}

/// A tensor of an addition to a stack in PEFT's form: A [experts,r,k] or, where `is_up` says so, B [experts,n,r].
///
/// # Errors
/// When it has other than three dimensions, or does not hold f32.
pub fn in_peft_form(tensor: &HostTensor, is_up: bool) -> std::result::Result<HostTensor, HostTensorError> {
    let dims = &tensor.ty().dims;
    let [experts, rows, columns] = [0, 1, 2].map(|d| dims.get(d).copied().unwrap_or(1));
    if !is_up {
        return HostTensor::new(
            TensorType::new(tensor.ty().dtype, [experts * rows, columns]),
            tensor.bytes(),
        );
    }
    let values = tensor.values();
    let from = |i: usize| {
        let (row, r, expert) = (i / (columns * experts), i / experts % columns, i % experts);
        values[(expert * rows + row) * columns + r] as f32
    };
    let all: Vec<f32> = (0..values.len()).map(from).collect();
    HostTensor::from_f32([rows, columns * experts], &all)
}

fn low_rank(a: &Adding, (rank, scale): (usize, f64), [down, up]: [String; 2], stack: Stack) -> LowRank {
    LowRank {
        adapter: a.at,
        rank,
        table: false,
        down,
        up,
        bias: None,
        magnitude: None,
        scale,
        initial: Initial::Plain,
        stack: Some(stack),
    }
}

/// Both halves of an addition.
fn both(a: &Adding, halves: &Halves) -> Result<[String; 2]> {
    match halves {
        [Some(down), Some(up)] => Ok([down.clone(), up.clone()]),
        [one, other] => {
            let there = one.as_ref().or(other.as_ref()).cloned().unwrap_or_default();
            Err(a.config.error(format!("{TENSORS} has '{there}' and not its other half")))
        }
    }
}

/// The stack of a name, and its extents.
fn stack_of(a: &Adding, names: &PeftNames, parameter: &str, tensor: &str) -> Result<(String, [usize; 3])> {
    let found = names.tensor(parameter).and_then(|name| Some((name, a.checkpoint.ty(name)?)));
    match found.map(|(name, ty)| (name, &ty.dims[..])) {
        Some((name, &[experts, n, k])) => Ok((name.to_string(), [experts, n, k])),
        _ => {
            let why = format!(
                "its tensor '{tensor}' adapts '{parameter}', and {} has no such stack of experts",
                a.checkpoint.path().display()
            );
            Err(a.config.error(why))
        }
    }
}

fn misfit(tensors: &[(&String, &TensorType); 2], stack: &str, dims: [usize; 3]) -> String {
    let [(a, a_ty), (b, b_ty)] = tensors;
    format!("'{a}' {a_ty} and '{b}' {b_ty} do not fit '{stack}' {dims:?}: another base, or a damaged adapter")
}
