//! How PEFT's files hold what is trained whole: modules with all that is in them, biases alone, and a table
//! that is the head too.

use std::collections::{BTreeMap, BTreeSet};

use percept_graph::{DType, HostTensor, TensorType};
use percept_model::checkpoint::Checkpoint;
use percept_model::{EXPERT_STACKS, PeftNames, Weights, in_peft_form, is_experts, tied_table};

use crate::error::{Error, Result};

/// The head of every model that is trained, in the names of transformers.
pub const HEAD: &str = "lm_head.weight";

/// The tensors of an adapter as PEFT names them, and what its configuration says of those that are trained
/// whole.
pub struct Layout {
    /// By the names in the file.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Layers that have A and B (`target_modules`), by PEFT's names.
    pub adapted: BTreeSet<String>,
    /// Stacks of experts and routers that have A and B (`target_parameters`), by PEFT's names.
    pub parameters: BTreeSet<String>,
    /// Modules whose every tensor is there (`modules_to_save`), by PEFT's names.
    pub modules: BTreeSet<String>,
    /// Which biases are there that belong to no such module (`bias`).
    pub bias: &'static str,
    /// The table is there and is the head too (`ensure_weight_tying`).
    pub tied: bool,
    /// Tensors that are there because PEFT asks for whole modules, with the base's values or as copies of the
    /// table.
    pub kept: BTreeSet<String>,
}

impl Layout {
    /// Of these tensors, by the model's own names, over the model that `weights` are of.
    ///
    /// # Errors
    /// When PEFT has no place for one of them, or the rest of a module cannot be read.
    pub fn new(tensors: &BTreeMap<String, HostTensor>, weights: &Weights) -> Result<Self> {
        let layers: BTreeSet<&str> =
            tensors.keys().filter_map(|n| n.strip_suffix(".lora_A.weight")).collect();
        let whole = || tensors.keys().map(String::as_str).filter(|n| !n.contains(".lora_"));
        let checkpoint = weights.checkpoint();
        let names = PeftNames::new(checkpoint);
        let own = modules(&layers, whole())?;
        let is_whole = |name: &str| own.iter().any(|m| lies_in(name, m));
        let (parameters, adapted): (Vec<&&str>, Vec<_>) =
            layers.iter().partition(|l| is_experts(l) || is_router(checkpoint, l));
        let parameter =
            |l: &str| if is_experts(l) { names.module(l) } else { format!("{}.weight", names.module(l)) };
        let mut found = Self {
            tensors: BTreeMap::new(),
            adapted: adapted.iter().map(|l| names.module(l)).collect(),
            parameters: parameters.iter().map(|l| parameter(l)).collect(),
            modules: own.iter().map(|m| names.module(m)).collect(),
            bias: "none",
            tied: false,
            kept: BTreeSet::new(),
        };
        for (name, tensor) in tensors {
            let of_experts = name.split_once(".lora_").is_some_and(|(stack, _)| is_experts(stack));
            let tensor = match of_experts {
                true => in_peft_form(tensor, name.ends_with(".lora_B.weight"))?,
                false => tensor.clone(),
            };
            found.tensors.insert(names.in_file(name, &layers), tensor);
        }
        let biases: Vec<bool> =
            whole().filter(|n| !is_whole(n)).map(|n| layers.contains(module(n))).collect();
        if !biases.is_empty() {
            found.bias = if biases.iter().all(|adapted| *adapted) { "lora_only" } else { "all" };
        }
        for name in checkpoint.names().filter(|n| !tensors.contains_key(*n) && is_whole(n)) {
            let Some(ty) = checkpoint.ty(name) else { continue };
            let ty = TensorType::new(DType::F32, ty.dims.clone());
            let rest = HostTensor::new(ty.clone(), weights.fetch(name, &ty)?.bytes())?;
            found.tensors.insert(names.in_file(name, &layers), rest);
            found.kept.insert(name.to_string());
        }
        if let Some(table) = tied_table(checkpoint).and_then(|t| tensors.get(&t)) {
            found.tied = true;
            found.tensors.insert(names.in_file(HEAD, &layers), table.clone());
            found.kept.insert(HEAD.into());
        }
        Ok(found)
    }
}

/// The modules that an adapter holds whole, where it has A and B beside `layers` and all of these tensors:
/// those of which more than the bias is trained. None of them lies in another.
///
/// # Errors
/// When PEFT has no place for one of the tensors.
pub fn modules<'a>(
    layers: &BTreeSet<&str>,
    whole: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for name in whole.filter(|n| !n.ends_with(".bias") && !layers.contains(module(n))) {
        if module(name).is_empty() {
            return Err(Error::Setting(format!(
                "lora.also matches '{name}', which is in no module of the model, and PEFT's adapters hold modules; leave it out"
            )));
        }
        all.insert(module(name).to_string());
        let adapted = layers.iter().find(|l| lies_in(l, module(name)));
        if let Some(layer) = adapted {
            return Err(Error::Setting(format!(
                "lora.also matches '{name}', so that the adapter holds the module '{}' whole, and lora.layers adapts '{layer}' \
                 inside of it; leave one of them out",
                module(name)
            )));
        }
    }
    let outer: Vec<String> = all.iter().filter(|m| !all.iter().any(|o| lies_in(m, o))).cloned().collect();
    Ok(outer.into_iter().collect())
}

/// Whether a layer is a mixture's router, which transformers has as a parameter of a module of its own kind and not as a linear
/// layer.
fn is_router(checkpoint: &Checkpoint, layer: &str) -> bool {
    let mixture = layer.strip_suffix(".gate");
    mixture.is_some_and(|m| checkpoint.ty(&format!("{m}.experts.{}", EXPERT_STACKS[0])).is_some())
}

/// The module that a tensor belongs to; empty for one of the model itself.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}

fn lies_in(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(layers: &[&str], whole: &[&str]) -> Result<Vec<String>> {
        let layers = layers.iter().copied().collect();
        modules(&layers, whole.iter().copied()).map(|m| m.into_iter().collect())
    }

    #[test]
    fn modules_are_those_of_which_more_than_the_bias_is_trained() {
        let whole = ["a.norm.weight", "a.norm.bias", "a.q.bias", "a.k.bias", "lm_head.weight"];
        assert_eq!(found(&["a.q"], &whole).unwrap(), ["a.norm", "lm_head"]);
        // A parameter beside modules brings them along.
        let inner = ["vision.class_embedding", "vision.position_embedding.weight"];
        assert_eq!(found(&[], &inner).unwrap(), ["vision"]);
        assert_eq!(found(&[], &["a.norm1.weight", "a.norm.weight"]).unwrap(), ["a.norm", "a.norm1"]);
    }

    #[test]
    fn what_peft_has_no_place_for_is_refused() {
        let e = found(&[], &["scale"]).unwrap_err().to_string();
        assert!(e.contains("'scale', which is in no module"), "{e}");
        let e = found(&["vision.mlp.fc1"], &["vision.class_embedding"]).unwrap_err().to_string();
        assert!(e.contains("module 'vision' whole") && e.contains("'vision.mlp.fc1'"), "{e}");
    }
}
