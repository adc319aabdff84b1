//! Towers and projectors in a GGUF file of their own beside the text model's, `mmproj-NAME.gguf`, as
//! llama.cpp has them: architecture `clip`, a kind in `clip.projector_type`, tensors `v.*` and `mm.*`.

mod config;
mod find;
mod keys;
mod tensors;
#[cfg(test)]
mod tests;

use super::architecture::Row;
pub(crate) use config::{Media, read};
pub(crate) use find::{beside, is_projector};
pub(crate) use keys::described;
pub(crate) use tensors::Piece;

/// `general.architecture` of such files.
pub(crate) const ARCHITECTURE: &str = "clip";

/// A kind of projector, with the family whose media it reads.
pub(crate) struct Projector {
    /// `clip.projector_type`.
    pub name: &'static str,
    /// The tower.
    pub tower: Tower,
    /// `model_type` of the family in config.json.
    pub model_type: &'static str,
    /// Another `model_type` of the same parts.
    pub also: Option<&'static str>,
    /// Its class in transformers.
    pub class: &'static str,
    /// `model_type` of the text part in config.json where nothing says it.
    pub text_type: &'static str,
    /// Architectures of text files that it goes with.
    pub texts: &'static [&'static str],
    /// What names in checkpoints begin with, as any release of transformers writes them, and what the rows
    /// here and those of the text's architecture begin with.
    prefixes: &'static [(&'static str, &'static str)],
    /// The other way: the text's, for the names that a pair's tensors get.
    text_places: &'static [(&'static str, &'static str)],
    /// The same for the tower's and the projector's.
    media_places: &'static [(&'static str, &'static str)],
    /// Tensors with a weight and perhaps a bias, in groups that kinds share.
    rows: &'static [&'static [Row]],
}

/// Kinds of towers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tower {
    /// SigLIP's, pooled: Gemma 3.
    Gemma3,
    /// SigLIP's, shuffled: Idefics3 and SmolVLM.
    Idefics3,
    /// CLIP's or SigLIP's, of which inner layers are read: LLaVA.
    Llava,
    Qwen2,
    Qwen2_5,
    Qwen3,
}

impl Tower {
    /// Queries, keys and values are one matrix in transformers and three here.
    fn splits_attention(self) -> bool {
        matches!(self, Tower::Qwen2 | Tower::Qwen2_5)
    }

    /// Patches are of two frames.
    pub(super) fn is_qwen(self) -> bool {
        matches!(self, Tower::Qwen2 | Tower::Qwen2_5 | Tower::Qwen3)
    }
}

const fn row(ggml: &'static str, hf: &'static str) -> Row {
    Row { ggml, hf }
}

/// The towers of CLIP and SigLIP: what is before their layers, and the layers.
const TOWER: &[Row] = &[
    row("v.patch_embd", "vision_tower.embeddings.patch_embedding"),
    row("v.position_embd", "vision_tower.embeddings.position_embedding"),
    row("v.blk.N.ln1", "vision_tower.encoder.layers.N.layer_norm1"),
    row("v.blk.N.ln2", "vision_tower.encoder.layers.N.layer_norm2"),
    row("v.blk.N.attn_q", "vision_tower.encoder.layers.N.self_attn.q_proj"),
    row("v.blk.N.attn_k", "vision_tower.encoder.layers.N.self_attn.k_proj"),
    row("v.blk.N.attn_v", "vision_tower.encoder.layers.N.self_attn.v_proj"),
    row("v.blk.N.attn_out", "vision_tower.encoder.layers.N.self_attn.out_proj"),
    row("v.blk.N.ffn_up", "vision_tower.encoder.layers.N.mlp.fc1"),
    row("v.blk.N.ffn_down", "vision_tower.encoder.layers.N.mlp.fc2"),
];
/// SigLIP's last norm. LLaVA reads an inner layer.
const POST_NORM: Row = row("v.post_ln", "vision_tower.post_layernorm");

/// What the layers of all of Qwen's towers have.
const QWEN_LAYERS: &[Row] = &[
    row("v.blk.N.ln1", "visual.blocks.N.norm1"),
    row("v.blk.N.ln2", "visual.blocks.N.norm2"),
    row("v.blk.N.attn_out", "visual.blocks.N.attn.proj"),
];
/// How Qwen2-VL and Qwen2.5-VL merge patches.
const QWEN2_MERGER: &[Row] = &[
    row("v.post_ln", "visual.merger.ln_q"),
    row("mm.0", "visual.merger.mlp.0"),
    row("mm.2", "visual.merger.mlp.2"),
];

/// The vector that stands before CLIP's patches. Neither name ends in `.weight`.
const CLASS: (&str, &str) = ("v.class_embd", "vision_tower.embeddings.class_embedding");
/// Gemma 3's matrix, whose name in transformers does not end in `.weight`.
const PROJECTION: (&str, &str) =
    ("mm.input_projection.weight", "multi_modal_projector.mm_input_projection_weight");
/// Gemma 3's norm, to whose weight llama.cpp adds one.
const SOFT_NORM: &str = "mm.soft_emb_norm.weight";
/// Patches of two frames are two tensors: that of the first frame, and this.
const SECOND_FRAME: &str = "v.patch_embd.weight.1";

const VISION: (&str, &str) = ("vision_tower.", "vision_tower.vision_model.");
const TEXT_INSIDE: [(&str, &str); 2] =
    [("model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")];

/// Every kind that is read and written.
static KNOWN: [Projector; 6] = [
    Projector {
        name: "qwen2vl_merger",
        tower: Tower::Qwen2,
        model_type: "qwen2_vl",
        also: None,
        class: "Qwen2VLForConditionalGeneration",
        text_type: "qwen2_vl_text",
        texts: &["qwen2vl"],
        prefixes: QWEN_PREFIXES,
        text_places: &[],
        media_places: &[],
        rows: &[
            QWEN_LAYERS,
            QWEN2_MERGER,
            &[
                row("v.blk.N.ffn_up", "visual.blocks.N.mlp.fc1"),
                row("v.blk.N.ffn_down", "visual.blocks.N.mlp.fc2"),
            ],
        ],
    },
    Projector {
        name: "qwen2.5vl_merger",
        tower: Tower::Qwen2_5,
        model_type: "qwen2_5_vl",
        also: None,
        class: "Qwen2_5_VLForConditionalGeneration",
        text_type: "qwen2_5_vl_text",
        texts: &["qwen2vl"],
        prefixes: QWEN_PREFIXES,
        text_places: &[],
        media_places: &[],
        rows: &[
            QWEN_LAYERS,
            QWEN2_MERGER,
            &[
                row("v.blk.N.ffn_gate", "visual.blocks.N.mlp.gate_proj"),
                row("v.blk.N.ffn_up", "visual.blocks.N.mlp.up_proj"),
                row("v.blk.N.ffn_down", "visual.blocks.N.mlp.down_proj"),
            ],
        ],
    },
    Projector {
        name: "qwen3vl_merger",
        tower: Tower::Qwen3,
        model_type: "qwen3_vl",
        also: None,
        class: "Qwen3VLForConditionalGeneration",
        text_type: "qwen3_vl_text",
        texts: &["qwen3vl"],
        prefixes: QWEN_PREFIXES,
        text_places: &[("model.", "model.language_model.")],
        media_places: &[("visual.", "model.visual.")],
        rows: &[
            QWEN_LAYERS,
            &[
                row("v.blk.N.attn_qkv", "visual.blocks.N.attn.qkv"),
                row("v.blk.N.ffn_up", "visual.blocks.N.mlp.linear_fc1"),
                row("v.blk.N.ffn_down", "visual.blocks.N.mlp.linear_fc2"),
                row("v.post_ln", "visual.merger.norm"),
                row("mm.0", "visual.merger.linear_fc1"),
                row("mm.2", "visual.merger.linear_fc2"),
                row("v.position_embd", "visual.pos_embed"),
                row("v.deepstack.N.norm", "visual.deepstack_merger_list.N.norm"),
                row("v.deepstack.N.fc1", "visual.deepstack_merger_list.N.linear_fc1"),
                row("v.deepstack.N.fc2", "visual.deepstack_merger_list.N.linear_fc2"),
            ],
        ],
    },
    Projector {
        name: "gemma3",
        tower: Tower::Gemma3,
        model_type: "gemma3",
        also: None,
        class: "Gemma3ForConditionalGeneration",
        text_type: "gemma3_text",
        texts: &["gemma3"],
        prefixes: INSIDE_PREFIXES,
        text_places: &TEXT_INSIDE,
        media_places: &[VISION],
        rows: &[TOWER, &[POST_NORM, row("mm.soft_emb_norm", "multi_modal_projector.mm_soft_emb_norm")]],
    },
    Projector {
        name: "idefics3",
        tower: Tower::Idefics3,
        model_type: "idefics3",
        also: Some("smolvlm"),
        class: "Idefics3ForConditionalGeneration",
        text_type: "llama",
        texts: &["llama"],
        prefixes: &[("model.text_model.", "model."), ("model.vision_model.", "vision_tower.")],
        text_places: &[("model.", "model.text_model.")],
        media_places: &[("vision_tower.", "model.vision_model.")],
        rows: &[TOWER, &[POST_NORM, row("mm.model.fc", "model.connector.modality_projection.proj")]],
    },
    Projector {
        name: "mlp",
        tower: Tower::Llava,
        model_type: "llava",
        also: None,
        class: "LlavaForConditionalGeneration",
        text_type: "llama",
        texts: &["llama", "qwen2", "qwen3"],
        prefixes: INSIDE_PREFIXES,
        text_places: &TEXT_INSIDE,
        media_places: &[VISION],
        rows: &[
            TOWER,
            &[
                row("v.pre_ln", "vision_tower.pre_layrnorm"),
                row("mm.0", "multi_modal_projector.linear_1"),
                row("mm.2", "multi_modal_projector.linear_2"),
            ],
        ],
    },
];

const QWEN_PREFIXES: &[(&str, &str)] = &[
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.visual.", "visual."),
];

const INSIDE_PREFIXES: &[(&str, &str)] = &[
    ("model.language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.vision_tower.vision_model.", "vision_tower."),
    ("vision_tower.vision_model.", "vision_tower."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
];

impl Projector {
    /// The kind of this name in `clip.projector_type`.
    pub fn named(name: &str) -> Option<&'static Projector> {
        KNOWN.iter().find(|p| p.name == name)
    }

    /// The kind that reads the media of a family.
    pub fn of_model_type(model_type: &str) -> Option<&'static Projector> {
        KNOWN.iter().find(|p| p.model_type == model_type || p.also == Some(model_type))
    }

    /// Every kind there is, for refusals.
    pub fn names() -> String {
        KNOWN.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
    }

    /// Every `model_type` there is, for refusals.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().flat_map(|p| [Some(p.model_type), p.also]).flatten()
    }

    /// Whether a text file of this architecture may have a projector beside it.
    pub fn goes_with(architecture: &str) -> bool {
        KNOWN.iter().any(|p| p.texts.contains(&architecture))
    }

    /// The name by which the rows here and those of the text's architecture know a tensor.
    pub fn plain(&self, name: &str) -> String {
        let fits = self.prefixes.iter().filter(|(from, _)| name.starts_with(from));
        match fits.max_by_key(|(from, _)| from.len()) {
            Some((from, to)) => format!("{to}{}", &name[from.len()..]),
            None => name.to_string(),
        }
    }

    /// Whether what is read of the tower is not its last state.
    pub fn ends_inside(&self) -> bool {
        self.tower == Tower::Llava
    }

    /// The name that a tensor of the text has in a pair.
    pub fn text_name(&self, plain: String) -> String {
        placed(self.text_places, plain)
    }

    fn media_name(&self, plain: String) -> String {
        placed(self.media_places, plain)
    }
}

fn placed(places: &[(&str, &str)], plain: String) -> String {
    match places.iter().find_map(|(from, to)| Some((to, plain.strip_prefix(from)?))) {
        Some((to, rest)) => format!("{to}{rest}"),
        None => plain,
    }
}
