//! What llama.cpp calls the tensors of each architecture that has a family here, and what it does to their
//! values.

use serde_json::Value as Json;

use super::super::tensor::Change;
use super::decoders::{self, Own};
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
    /// What only some architectures have. Models of these are read and not written.
    pub own: Option<&'static Own>,
}

/// An architecture without anything particular, for others to differ from.
const PLAIN_ONE: Architecture = Architecture {
    name: "",
    model_type: "",
    also: &[],
    class: "",
    rows: PLAIN,
    permuted: false,
    norms_plus_one: false,
    own: None,
};

/// A tensor's two names without `.weight` or `.bias`; `N` stands for the number of the block.
pub(crate) struct Row {
    pub ggml: &'static str,
    pub hf: &'static str,
}

pub(super) const fn row(ggml: &'static str, hf: &'static str) -> Row {
    Row { ggml, hf }
}

pub(super) const EMBED: Row = row("token_embd", "model.embed_tokens");
pub(super) const NORM: Row = row("output_norm", "model.norm");
pub(super) const HEAD: Row = row("output", "lm_head");
pub(super) const Q: Row = row("blk.N.attn_q", "model.layers.N.self_attn.q_proj");
pub(super) const K: Row = row("blk.N.attn_k", "model.layers.N.self_attn.k_proj");
pub(super) const V: Row = row("blk.N.attn_v", "model.layers.N.self_attn.v_proj");
pub(super) const O: Row = row("blk.N.attn_output", "model.layers.N.self_attn.o_proj");
pub(super) const Q_NORM: Row = row("blk.N.attn_q_norm", "model.layers.N.self_attn.q_norm");
pub(super) const K_NORM: Row = row("blk.N.attn_k_norm", "model.layers.N.self_attn.k_norm");
pub(super) const GATE: Row = row("blk.N.ffn_gate", "model.layers.N.mlp.gate_proj");
pub(super) const UP: Row = row("blk.N.ffn_up", "model.layers.N.mlp.up_proj");
pub(super) const DOWN: Row = row("blk.N.ffn_down", "model.layers.N.mlp.down_proj");
pub(super) const ATTN_NORM: Row = row("blk.N.attn_norm", "model.layers.N.input_layernorm");
pub(super) const FFN_NORM: Row = row("blk.N.ffn_norm", "model.layers.N.post_attention_layernorm");

const PLAIN: &[Row] = &[EMBED, NORM, HEAD, Q, K, V, O, GATE, UP, DOWN, ATTN_NORM, FFN_NORM];
const QK_NORMED: &[Row] =
    &[EMBED, NORM, HEAD, Q, K, V, O, Q_NORM, K_NORM, GATE, UP, DOWN, ATTN_NORM, FFN_NORM];
pub(super) const ROUTER: Row = row("blk.N.ffn_gate_inp", "model.layers.N.mlp.gate");
// Stacks, of which reading makes those of Hugging Face's.
pub(super) const GATES: Row = row("blk.N.ffn_gate_exps", "model.layers.N.mlp.experts.gate_proj");
pub(super) const UPS: Row = row("blk.N.ffn_up_exps", "model.layers.N.mlp.experts.up_proj");
pub(super) const DOWNS: Row = row("blk.N.ffn_down_exps", "model.layers.N.mlp.experts.down_proj");
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
const KNOWN: [Architecture; 18] = [
    Architecture {
        name: "llama",
        model_type: "llama",
        also: &["mistral"],
        class: "LlamaForCausalLM",
        permuted: true,
        ..PLAIN_ONE
    },
    Architecture { name: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", ..PLAIN_ONE },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        rows: QK_NORMED,
        ..PLAIN_ONE
    },
    Architecture {
        name: "qwen3moe",
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        rows: QK_NORMED_MIXTURE,
        ..PLAIN_ONE
    },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        class: "Gemma2ForCausalLM",
        rows: SANDWICH,
        norms_plus_one: true,
        ..PLAIN_ONE
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        rows: SANDWICH_QK_NORMED,
        norms_plus_one: true,
        ..PLAIN_ONE
    },
    // Without a projector beside them these are the models that they were made of: all positions of text are
    // alike.
    Architecture {
        name: "qwen2vl",
        model_type: "qwen2",
        also: &["qwen2_vl_text", "qwen2_5_vl_text"],
        class: "Qwen2ForCausalLM",
        ..PLAIN_ONE
    },
    Architecture {
        name: "qwen3vl",
        model_type: "qwen3",
        also: &["qwen3_vl_text"],
        class: "Qwen3ForCausalLM",
        rows: QK_NORMED,
        ..PLAIN_ONE
    },
    Architecture {
        name: whisper::NAME,
        model_type: "whisper",
        class: "WhisperForConditionalGeneration",
        rows: whisper::ROWS,
        ..PLAIN_ONE
    },
    Architecture {
        name: "gemma",
        model_type: "gemma",
        class: "GemmaForCausalLM",
        norms_plus_one: true,
        own: Some(&decoders::GEMMA),
        ..PLAIN_ONE
    },
    Architecture {
        name: "gemma4",
        model_type: "gemma4_text",
        class: "Gemma4ForCausalLM",
        rows: decoders::gemma4::ROWS,
        own: Some(&decoders::gemma4::OWN),
        ..PLAIN_ONE
    },
    Architecture {
        name: "deepseek2",
        model_type: "deepseek_v2",
        class: "DeepseekV2ForCausalLM",
        rows: decoders::deepseek::ROWS,
        own: Some(&decoders::deepseek::OWN),
        ..PLAIN_ONE
    },
    Architecture {
        name: "glm4",
        model_type: "glm4",
        class: "Glm4ForCausalLM",
        rows: decoders::GLM4_ROWS,
        own: Some(&decoders::GLM4),
        ..PLAIN_ONE
    },
    Architecture {
        name: "granite",
        model_type: "granite",
        class: "GraniteForCausalLM",
        permuted: true,
        own: Some(&decoders::GRANITE),
        ..PLAIN_ONE
    },
    Architecture {
        name: "lfm2",
        model_type: "lfm2",
        class: "Lfm2ForCausalLM",
        rows: decoders::LFM2_ROWS,
        own: Some(&decoders::LFM2),
        ..PLAIN_ONE
    },
    Architecture {
        name: "qwen3vlmoe",
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        rows: QK_NORMED_MIXTURE,
        own: Some(&decoders::QWEN3_VL_MOE),
        ..PLAIN_ONE
    },
    Architecture {
        name: "qwen35",
        model_type: "qwen3_5_text",
        class: "Qwen3_5ForCausalLM",
        rows: decoders::qwen3_5::ROWS,
        norms_plus_one: true,
        own: Some(&decoders::qwen3_5::OWN),
        ..PLAIN_ONE
    },
    Architecture {
        name: "qwen35moe",
        model_type: "qwen3_5_moe_text",
        class: "Qwen3_5MoeForCausalLM",
        rows: decoders::qwen3_5::MIXTURE_ROWS,
        norms_plus_one: true,
        own: Some(&decoders::qwen3_5::OWN),
        ..PLAIN_ONE
    },
];

impl Architecture {
    /// The architecture of this name in GGUF files.
    pub fn named(name: &str) -> Option<&'static Architecture> {
        KNOWN.iter().find(|a| a.name == name)
    }

    /// The architecture that a `model_type` of Hugging Face's is in GGUF files. Mistral is Llama there.
    pub fn of_model_type(model_type: &str) -> Option<&'static Architecture> {
        let named = |a: &&Architecture| a.model_type == model_type || a.also.contains(&model_type);
        KNOWN.iter().filter(named).max_by_key(|a| a.is_written())
    }

    /// Every `model_type` of a model that is one file, for refusals.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        let whole = KNOWN.iter().filter(|a| !a.name.ends_with("vl") && a.is_written());
        whole.flat_map(|a| [a.model_type].into_iter().chain(a.also.iter().copied()))
    }

    /// Whether models of it are written as GGUF, and not read alone: stacks of experts are put together otherwise
    /// there, and so are other parts that few architectures have.
    pub fn is_written(&self) -> bool {
        self.own.is_none() && !self.rows.iter().any(|row| row.ggml == GATES.ggml)
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
        let exact = self.own.map_or(&[][..], |own| own.exact);
        let exact = exact.iter().find_map(|row| Some((row, numbered(ggml, row.ggml, row.hf)?)));
        exact.or_else(|| self.rows.iter().find_map(|row| Some((row, rename(ggml, row.ggml, row.hf)?))))
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
            // The norm behind the delta rule is no other one's kind.
            name if self.norms_plus_one && name.ends_with("norm") && name != "blk.N.ssm_norm" => {
                Change::MinusOne
            }
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
    Some(format!("{}{suffix}", numbered(name.strip_suffix(suffix)?, from, to)?))
}

/// The same of names with nothing behind the patterns.
fn numbered(name: &str, from: &str, to: &str) -> Option<String> {
    let Some((before, after)) = from.split_once('N') else {
        return (name == from).then(|| to.to_string());
    };
    let number = name.strip_prefix(before)?.strip_suffix(after)?;
    let plain = !number.is_empty() && number.len() <= 6 && number.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| to.replacen('N', number, 1))
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
                // Those that are not written may know a tensor by two names.
                let found = architecture.to_ggml(&hf).unwrap().1;
                assert!(found == ggml || !architecture.is_written(), "{}: {found}", architecture.name);
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
