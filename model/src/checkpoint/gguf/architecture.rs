//! What llama.cpp calls the tensors of each architecture that has a family here, and what it does to their
//! values.

use serde_json::Value as Json;

use super::super::tensor::Change;
use super::whisper;

/// An architecture of llama.cpp.
pub(crate) struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// `model_type` of the same model in Hugging Face's config.json.
    pub model_type: &'static str,
    /// Other values of `model_type` that are the same here.
    pub also: &'static [&'static str],
    /// Its class in transformers.
    pub class: &'static str,
    /// Its tensors.
    pub rows: &'static [Row],
    /// Rows of Q and K are permuted from split to interleaved rotary pairs.
    pub permuted: bool,
    /// Norm weights have one added to them.
    pub norms_plus_one: bool,
}

/// A tensor's two names without `.weight` or `.bias`; `N` stands for the number of the block.
pub(crate) struct Row {
    pub ggml: &'static str,
    pub hf: &'static str,
}

const fn row(ggml: &'static str, hf: &'static str) -> Row {
    Row { ggml, hf }
}

const EMBED: Row = row("token_embd", "model.embed_tokens");
const NORM: Row = row("output_norm", "model.norm");
const HEAD: Row = row("output", "lm_head");
const Q: Row = row("blk.N.attn_q", "model.layers.N.self_attn.q_proj");
const K: Row = row("blk.N.attn_k", "model.layers.N.self_attn.k_proj");
const V: Row = row("blk.N.attn_v", "model.layers.N.self_attn.v_proj");
const O: Row = row("blk.N.attn_output", "model.layers.N.self_attn.o_proj");
const Q_NORM: Row = row("blk.N.attn_q_norm", "model.layers.N.self_attn.q_norm");
const K_NORM: Row = row("blk.N.attn_k_norm", "model.layers.N.self_attn.k_norm");
const GATE: Row = row("blk.N.ffn_gate", "model.layers.N.mlp.gate_proj");
const UP: Row = row("blk.N.ffn_up", "model.layers.N.mlp.up_proj");
const DOWN: Row = row("blk.N.ffn_down", "model.layers.N.mlp.down_proj");
const ATTN_NORM: Row = row("blk.N.attn_norm", "model.layers.N.input_layernorm");
const FFN_NORM: Row = row("blk.N.ffn_norm", "model.layers.N.post_attention_layernorm");

const PLAIN: &[Row] = &[EMBED, NORM, HEAD, Q, K, V, O, GATE, UP, DOWN, ATTN_NORM, FFN_NORM];
const QK_NORMED: &[Row] =
    &[EMBED, NORM, HEAD, Q, K, V, O, Q_NORM, K_NORM, GATE, UP, DOWN, ATTN_NORM, FFN_NORM];
const ROUTER: Row = row("blk.N.ffn_gate_inp", "model.layers.N.mlp.gate");
// Stacks, of which reading makes those of Hugging Face's.
const GATES: Row = row("blk.N.ffn_gate_exps", "model.layers.N.mlp.experts.gate_proj");
const UPS: Row = row("blk.N.ffn_up_exps", "model.layers.N.mlp.experts.up_proj");
const DOWNS: Row = row("blk.N.ffn_down_exps", "model.layers.N.mlp.experts.down_proj");
const QK_NORMED_MIXTURE: &[Row] =
    &[EMBED, NORM, HEAD, Q, K, V, O, Q_NORM, K_NORM, ROUTER, GATES, UPS, DOWNS, ATTN_NORM, FFN_NORM];
const POST_ATTN_NORM: Row = row("blk.N.post_attention_norm", "model.layers.N.post_attention_layernorm");
const PRE_FFN_NORM: Row = row("blk.N.ffn_norm", "model.layers.N.pre_feedforward_layernorm");
const POST_FFN_NORM: Row = row("blk.N.post_ffw_norm", "model.layers.N.post_feedforward_layernorm");

const SANDWICH: &[Row] =
    &[EMBED, NORM, HEAD, Q, K, V, O, GATE, UP, DOWN, ATTN_NORM, POST_ATTN_NORM, PRE_FFN_NORM, POST_FFN_NORM];
const SANDWICH_QK_NORMED: &[Row] = &[
    EMBED,
    NORM,
    HEAD,
    Q,
    K,
    V,
    O,
    Q_NORM,
    K_NORM,
    GATE,
    UP,
    DOWN,
    ATTN_NORM,
    POST_ATTN_NORM,
    PRE_FFN_NORM,
    POST_FFN_NORM,
];

/// Every architecture whose tensors get Hugging Face's names.
const KNOWN: [Architecture; 9] = [
    Architecture {
        name: "llama",
        model_type: "llama",
        also: &["mistral"],
        class: "LlamaForCausalLM",
        rows: PLAIN,
        permuted: true,
        norms_plus_one: false,
    },
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        also: &[],
        class: "Qwen2ForCausalLM",
        rows: PLAIN,
        permuted: false,
        norms_plus_one: false,
    },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        also: &[],
        class: "Qwen3ForCausalLM",
        rows: QK_NORMED,
        permuted: false,
        norms_plus_one: false,
    },
    Architecture {
        name: "qwen3moe",
        model_type: "qwen3_moe",
        also: &[],
        class: "Qwen3MoeForCausalLM",
        rows: QK_NORMED_MIXTURE,
        permuted: false,
        norms_plus_one: false,
    },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        also: &[],
        class: "Gemma2ForCausalLM",
        rows: SANDWICH,
        permuted: false,
        norms_plus_one: true,
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        also: &[],
        class: "Gemma3ForCausalLM",
        rows: SANDWICH_QK_NORMED,
        permuted: false,
        norms_plus_one: true,
    },
    // Without a projector beside them these are the models that they were made of: all positions of text are
    // alike.
    Architecture {
        name: "qwen2vl",
        model_type: "qwen2",
        also: &["qwen2_vl_text", "qwen2_5_vl_text"],
        class: "Qwen2ForCausalLM",
        rows: PLAIN,
        permuted: false,
        norms_plus_one: false,
    },
    Architecture {
        name: "qwen3vl",
        model_type: "qwen3",
        also: &["qwen3_vl_text"],
        class: "Qwen3ForCausalLM",
        rows: QK_NORMED,
        permuted: false,
        norms_plus_one: false,
    },
    Architecture {
        name: whisper::NAME,
        model_type: "whisper",
        also: &[],
        class: "WhisperForConditionalGeneration",
        rows: whisper::ROWS,
        permuted: false,
        norms_plus_one: false,
    },
];

impl Architecture {
    /// The architecture of this name in GGUF files.
    pub fn named(name: &str) -> Option<&'static Architecture> {
        KNOWN.iter().find(|a| a.name == name)
    }

    /// The architecture that a `model_type` of Hugging Face's is in GGUF files. Mistral is Llama there.
    pub fn of_model_type(model_type: &str) -> Option<&'static Architecture> {
        KNOWN.iter().find(|a| a.model_type == model_type || a.also.contains(&model_type))
    }

    /// Every `model_type` of a model that is one file, for refusals.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        let whole = KNOWN.iter().filter(|a| !a.name.ends_with("vl") && a.is_written());
        whole.flat_map(|a| [a.model_type].into_iter().chain(a.also.iter().copied()))
    }

    /// Whether models of it are written as GGUF, and not read alone: stacks of experts are put together otherwise
    /// there.
    pub fn is_written(&self) -> bool {
        !self.rows.iter().any(|row| row.ggml == GATES.ggml)
    }

    /// Whether it is Whisper, which is described otherwise than decoders are.
    pub fn is_whisper(&self) -> bool {
        self.name == whisper::NAME
    }

    /// Whether rotary positions have several axes.
    pub fn is_multimodal(&self) -> bool {
        self.name.ends_with("vl")
    }

    /// The row and the Hugging Face name of a tensor of a GGUF file.
    pub fn to_hf(&self, ggml: &str) -> Option<(&'static Row, String)> {
        self.rows.iter().find_map(|row| Some((row, rename(ggml, row.ggml, row.hf)?)))
    }

    /// The row and the GGUF name of a tensor of a Hugging Face checkpoint.
    pub fn to_ggml(&self, hf: &str) -> Option<(&'static Row, String)> {
        self.rows.iter().find_map(|row| Some((row, rename(hf, row.hf, row.ggml)?)))
    }

    /// What llama.cpp's converter has done to a tensor, of a model with so many heads for queries and for
    /// keys, and reading has to undo.
    pub fn change(&self, row: &Row, [queries, keys]: [usize; 2]) -> Change {
        match row.ggml {
            "blk.N.attn_q" if self.permuted => Change::Unpermute { heads: queries },
            "blk.N.attn_k" if self.permuted => Change::Unpermute { heads: keys },
            name if self.norms_plus_one && name.ends_with("norm") => Change::MinusOne,
            _ => Change::None,
        }
    }
}

/// The heads for queries and for keys of a configuration that was read from a GGUF file.
pub(crate) fn heads(config: &Json) -> [usize; 2] {
    let heads = |key: &str| config.get(key).and_then(Json::as_u64).unwrap_or(0) as usize;
    [heads("num_attention_heads"), heads("num_key_value_heads")]
}

/// `name` under the pattern `from`, written as the pattern `to`.
pub(super) fn rename(name: &str, from: &str, to: &str) -> Option<String> {
    let suffix = [".weight", ".bias"].into_iter().find(|s| name.ends_with(s))?;
    let stem = name.strip_suffix(suffix)?;
    let Some((before, after)) = from.split_once('N') else {
        return (stem == from).then(|| format!("{to}{suffix}"));
    };
    let number = stem.strip_prefix(before)?.strip_suffix(after)?;
    let plain = !number.is_empty() && number.len() <= 6 && number.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| format!("{}{suffix}", to.replacen('N', number, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_in_every_architecture() {
        for architecture in &KNOWN {
            for row in architecture.rows {
                let (ggml, hf) = (row.ggml.replace('N', "12"), row.hf.replace('N', "12"));
                let (ggml, hf) = (format!("{ggml}.weight"), format!("{hf}.weight"));
                assert_eq!(architecture.to_hf(&ggml).unwrap().1, hf, "{}", architecture.name);
                assert_eq!(architecture.to_ggml(&hf).unwrap().1, ggml, "{}", architecture.name);
            }
        }
    }

    #[test]
    fn other_names_stay() {
        let llama = Architecture::named("llama").unwrap();
        for name in [
            "blk.x.attn_q.weight",
            "blk..attn_q.weight",
            "blk.1.attn_q",
            "rope_freqs.weight",
            "blk.1.ffn_norm.scale",
        ] {
            assert!(llama.to_hf(name).is_none(), "{name}");
        }
        assert_eq!(llama.to_hf("blk.3.attn_q.bias").unwrap().1, "model.layers.3.self_attn.q_proj.bias");
    }
}
