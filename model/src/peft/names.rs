//! What an adapter's names mean in a checkpoint, and how PEFT writes a checkpoint's names.
//!
//! PEFT writes the names of modules in memory, which differ between versions of transformers and from the
//! names in checkpoints: a decoder's layers are `model.layers`, `language_model.model.layers` or
//! `model.language_model.layers`. All spellings are read. Those of transformers 5 are written, which PEFT
//! looks for when it opens the adapter.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::mixture::{EXPERT_STACKS, is_experts};

/// Parts of names that only wrap, and so are left out where names are compared.
const WRAPPERS: [&str; 3] = ["base_model", "model", "language_model"];

/// Names of heads, which a checkpoint lacks where the table is the head.
const HEADS: [&str; 2] = ["lm_head", "proj_out"];

/// What PEFT puts before the names of the model that it adapts.
const ADAPTED: &str = "base_model.model.";
/// The module into which PEFT puts a layer that it adapts.
pub(crate) const WRAPPED: &str = "base_layer";
/// Modules that stand beside `model` in checkpoints that transformers 4 wrote, and inside of it in
/// transformers 5.
const OUTER: [&str; 2] = ["language_model", "visual"];

/// The names of a checkpoint's tensors and modules, and of the same ones in an adapter that PEFT writes.
pub struct PeftNames {
    /// By what is the same in all spellings; `None` where several tensors come to the same.
    tensors: BTreeMap<String, Option<String>>,
    /// Whether a model that reads media has the names that transformers 4 gave it.
    is_transformers_4: bool,
}

impl PeftNames {
    /// The names of a checkpoint.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let mut tensors: BTreeMap<String, Option<String>> = BTreeMap::new();
        for name in checkpoint.names() {
            let own = Some(name.to_string());
            tensors.entry(plain(name)).and_modify(|other| *other = None).or_insert(own);
        }
        // A name as it is written always means itself.
        for name in checkpoint.names() {
            tensors.insert(name.to_string(), Some(name.to_string()));
        }
        let is_outer = |name: &str| name.split_once('.').is_some_and(|(first, _)| OUTER.contains(&first));
        Self { tensors, is_transformers_4: checkpoint.names().any(is_outer) }
    }

    /// How PEFT calls a module or tensor of the checkpoint: by its name in the memory of transformers 5.
    pub fn module(&self, name: &str) -> String {
        if !self.is_transformers_4 {
            return name.to_string();
        }
        let parts: Vec<&str> = name.split('.').collect();
        let (before, rest): (&[&str], &[&str]) = match &parts[..] {
            ["language_model", "lm_head", ..] => (&[], &parts[1..]),
            ["language_model", "model", rest @ ..] => (&["model", "language_model"], rest),
            ["lm_head", ..] | ["model", "language_model" | "visual", ..] => (&[], &parts),
            ["model", rest @ ..] => (&["model", "language_model"], rest),
            ["vision_tower", "vision_model", rest @ ..] => (&["model", "vision_tower"], rest),
            _ => (&["model"], &parts),
        };
        [before, rest].concat().join(".")
    }

    /// The name in an adapter's file of one of its tensors by the checkpoint's names: the A or B of a layer
    /// or stack of experts (`LAYER.lora_A.weight`), or one that is trained whole. What belongs to one of the `adapted` layers
    /// stands inside of PEFT's own.
    pub fn in_file(&self, name: &str, adapted: &BTreeSet<&str>) -> String {
        if let Some((stack, half)) = name.split_once(".lora_").filter(|(stack, _)| is_experts(stack))
            && let Some((experts, own)) = stack.rsplit_once('.')
        {
            // Those of the stacks that a module has after this one lie around its own.
            let after = EXPERT_STACKS.iter().skip_while(|s| **s != own).skip(1);
            let around = after.filter(|s| adapted.contains(&format!("{experts}.{s}")[..])).count();
            let wrapped = format!(".{WRAPPED}").repeat(around);
            return format!("{ADAPTED}{}{wrapped}.lora_{half}", self.module(experts));
        }
        match name.rsplit_once('.') {
            Some((layer, last)) if adapted.contains(layer) => {
                format!("{ADAPTED}{}.{WRAPPED}.{last}", self.module(layer))
            }
            _ => format!("{ADAPTED}{}", self.module(name)),
        }
    }

    /// The checkpoint's name of a tensor of an adapter's file, as [`PeftNames::in_file`] takes it. Parts of
    /// an adapter beside A and B, and what is not in the checkpoint, keep their names in the file, without
    /// what PEFT puts before all.
    pub fn of_file(&self, name: &str) -> String {
        let layer = |module: &str| {
            let matrix = self.matrix(module);
            matrix.and_then(|matrix| matrix.strip_suffix(".weight")).unwrap_or(module).to_string()
        };
        match parse(name) {
            Some((module, Part::Down)) => format!("{}.lora_A.weight", layer(&module)),
            Some((module, Part::Up)) => format!("{}.lora_B.weight", layer(&module)),
            Some((own, Part::Whole | Part::Base)) => self.tensor(&own).map_or(own.clone(), str::to_string),
            _ => name.strip_prefix(ADAPTED).unwrap_or(name).to_string(),
        }
    }

    /// The checkpoint's name of a tensor.
    pub(crate) fn tensor(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).or_else(|| self.tensors.get(&plain(name)))?.as_deref()
    }

    /// The checkpoint's name of a module's matrix.
    pub(crate) fn matrix(&self, module: &str) -> Option<&str> {
        // Attention of PyTorch's own keeps its three projections in one matrix beside its modules.
        [".weight", ".in_proj_weight"].iter().find_map(|end| self.tensor(&format!("{module}{end}")))
    }

    /// Whether a module is a head that has no tensor because the table is the head.
    pub(crate) fn is_tied_head(&self, module: &str) -> bool {
        HEADS.contains(&plain(module).as_str()) && self.matrix(module).is_none() && self.table().is_some()
    }

    /// The table of a decoder whose head it is too; `None` where there is a head, or no table.
    pub(crate) fn table(&self) -> Option<&str> {
        if HEADS.iter().any(|head| self.matrix(head).is_some()) {
            return None;
        }
        self.tensor("embed_tokens.weight").or_else(|| self.tensor("decoder.embed_tokens.weight"))
    }
}

/// A name without what only wraps.
fn plain(name: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in name.split('.') {
        // Towers of transformers 4 are models of their own inside.
        let inner = part == "vision_model" && kept.last() == Some(&"vision_tower");
        if !WRAPPERS.contains(&part) && !inner {
            kept.push(part);
        }
    }
    kept.join(".")
}

/// What a tensor of an adapter is to its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A, [rank, inputs].
    Down,
    /// B, [outputs, rank].
    Up,
    /// The bias of B, [outputs].
    Bias,
    /// A of a table, [rank, rows].
    TableDown,
    /// B of a table, [width, rank].
    TableUp,
    /// DoRA's magnitudes.
    Magnitude,
    /// New rows of a table.
    Rows,
    /// A tensor that replaces the model's for everyone who reads it: its name's last part.
    Base,
    /// A tensor that replaces the model's for its own module.
    Whole,
}

/// The module and the part that a tensor's name stands for; for whole tensors, the tensor's own name. `None`
/// for names that PEFT does not write.
pub(crate) fn parse(name: &str) -> Option<(String, Part)> {
    let own = name.strip_prefix(ADAPTED).or(name.strip_prefix("base_model.")).unwrap_or(name);
    let parts: Vec<&str> = own.split('.').collect();
    let special = |p: &&str| p.starts_with("lora_") || matches!(*p, "token_adapter" | "modules_to_save");
    let Some(at) = parts.iter().position(special) else {
        let is_base = parts.contains(&WRAPPED);
        let name: Vec<&str> = parts.into_iter().filter(|p| *p != WRAPPED).collect();
        return Some((name.join("."), if is_base { Part::Base } else { Part::Whole }));
    };
    let module: Vec<&str> = parts[..at].iter().filter(|p| **p != WRAPPED).copied().collect();
    let module = module.join(".");
    if parts[at] == "modules_to_save" {
        // What follows is the adapter's name, then the tensor's.
        let rest = parts.get(at + 2..).filter(|rest| !rest.is_empty())?;
        return Some((format!("{module}.{}", rest.join(".")), Part::Whole));
    }
    // An adapter's name may stand before the last part, or at the end of what is no module's.
    let (kind, rest) = match parts[at] {
        "token_adapter" => (parts.get(at + 1).copied()?, parts.get(at + 2..)?),
        kind => (kind, &parts[at + 1..]),
    };
    let part = match (kind, rest) {
        ("lora_A", ["weight"] | [_, "weight"]) => Part::Down,
        ("lora_B", ["weight"] | [_, "weight"]) => Part::Up,
        ("lora_B", ["bias"] | [_, "bias"]) => Part::Bias,
        ("lora_embedding_A", [] | [_]) => Part::TableDown,
        ("lora_embedding_B", [] | [_]) => Part::TableUp,
        ("lora_magnitude_vector", [] | [_] | [_, "weight"]) => Part::Magnitude,
        ("trainable_tokens_delta", [] | [_]) => Part::Rows,
        _ => return None,
    };
    Some((module, part))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::TENSORS;
    use super::*;

    #[test]
    fn names_of_all_versions_mean_the_same_modules() {
        for (name, module, part) in [
            ("base_model.model.model.layers.0.q_proj.lora_A.weight", "model.layers.0.q_proj", Part::Down),
            (
                "base_model.model.model.layers.0.q_proj.lora_B.default.weight",
                "model.layers.0.q_proj",
                Part::Up,
            ),
            ("base_model.model.lm_head.lora_B.bias", "lm_head", Part::Bias),
            ("model.layers.0.q_proj.base_layer.lora_A.weight", "model.layers.0.q_proj", Part::Down),
            ("base_model.model.model.embed_tokens.lora_embedding_A", "model.embed_tokens", Part::TableDown),
            (
                "base_model.model.model.embed_tokens.lora_embedding_B.default",
                "model.embed_tokens",
                Part::TableUp,
            ),
            ("base_model.model.q.lora_magnitude_vector", "q", Part::Magnitude),
            ("base_model.model.q.lora_magnitude_vector.default.weight", "q", Part::Magnitude),
            ("base_model.model.e.token_adapter.trainable_tokens_delta", "e", Part::Rows),
            (
                "base_model.model.model.embed_tokens.base_layer.weight",
                "model.embed_tokens.weight",
                Part::Base,
            ),
            ("base_model.model.q.base_layer.bias", "q.bias", Part::Base),
            ("base_model.model.lm_head.weight", "lm_head.weight", Part::Whole),
            ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight", Part::Whole),
        ] {
            assert_eq!(parse(name), Some((module.to_string(), part)), "{name}");
        }
        for unknown in ["q.lora_A", "q.lora_diag.default", "q.lora_A.a.b.weight", "x.modules_to_save.default"]
        {
            assert_eq!(parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn names_that_peft_wrote_are_found_and_written_again() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let open = |path: PathBuf| Checkpoint::open(tests.join(path)).unwrap();
        for base in [
            "gemma3",
            "llava",
            "llava-onevision",
            "qwen2-5-vl-image",
            "qwen2-audio",
            "qwen2-vl-image",
            "qwen3-vl-image",
            "smolvlm-image",
            "whisper",
        ] {
            let checkpoint = open(Path::new("parity").join(base).join("model"));
            let adapter = open(Path::new("adapters").join(format!("parts-{base}")).join(TENSORS));
            let names = PeftNames::new(&checkpoint);
            assert!(adapter.names().count() >= 8, "{base}");
            for name in adapter.names() {
                let own = names.of_file(name);
                let layer = own.rsplit_once(".lora_").unwrap().0;
                assert!(checkpoint.ty(&format!("{layer}.weight")).is_some(), "{base}: {name} is {own}");
                assert_eq!(names.in_file(&own, &BTreeSet::new()), name, "{base}");
            }
        }
    }
}
