//! What the parameters of a block are called on disk.

/// Names of an attention's projections and norms, below the block's prefix and without `.weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AttentionNames {
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    /// Queries, keys and values in one matrix, in this order of rows.
    pub fused: &'static str,
    pub out: &'static str,
    pub q_norm: &'static str,
    pub k_norm: &'static str,
}

/// Names of a block's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockNames {
    /// Before attention.
    pub attention_norm: &'static str,
    /// Self-attention.
    pub attention: AttentionNames,
    /// After attention, in blocks with norms on both sides.
    pub attention_out_norm: &'static str,
    /// Scales what attention adds; the whole name of a vector.
    pub attention_scale: &'static str,
    /// Before cross-attention.
    pub cross_norm: &'static str,
    /// Cross-attention.
    pub cross: AttentionNames,
    /// Before the MLP.
    pub mlp_norm: &'static str,
    /// Into the activation, in gated MLPs. Of the name of `up`, both are one matrix, of which this is the first half.
    pub gate: &'static str,
    /// Into the hidden width.
    pub up: &'static str,
    /// Back from it.
    pub down: &'static str,
    /// After the MLP, in blocks with norms on both sides.
    pub mlp_out_norm: &'static str,
    /// Scales what the MLP adds; the whole name of a vector.
    pub mlp_scale: &'static str,
    /// Of a mixture beside the MLP, in blocks where it does not stand in the MLP's place.
    pub beside: Option<BesideNames>,
}

/// Names of what belongs to a mixture beside an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BesideNames {
    /// Behind the MLP.
    pub mlp_out_norm: &'static str,
    /// Before the experts.
    pub experts_norm: &'static str,
    /// Behind them.
    pub experts_out_norm: &'static str,
    /// Scales what the router reads; the whole name of a vector.
    pub router_scale: &'static str,
}

const SELF_ATTENTION: AttentionNames = AttentionNames {
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    fused: "self_attn.qkv_proj",
    out: "self_attn.o_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
};

/// Llama and the decoders that follow it: Mistral, Qwen2, Qwen3.
pub const LLAMA: BlockNames = BlockNames {
    attention_norm: "input_layernorm",
    attention: SELF_ATTENTION,
    attention_out_norm: "",
    attention_scale: "",
    cross_norm: "",
    cross: SELF_ATTENTION,
    mlp_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    mlp_out_norm: "",
    mlp_scale: "",
    beside: None,
};

/// Gemma 2 and 3: four norms a block, and Llama's name of the second means another.
pub const GEMMA: BlockNames = BlockNames {
    attention_out_norm: "post_attention_layernorm",
    mlp_norm: "pre_feedforward_layernorm",
    mlp_out_norm: "post_feedforward_layernorm",
    ..LLAMA
};

/// LFM2.
pub const LFM2: BlockNames = BlockNames {
    attention_norm: "operator_norm",
    attention: AttentionNames {
        out: "self_attn.out_proj",
        q_norm: "self_attn.q_layernorm",
        k_norm: "self_attn.k_layernorm",
        ..SELF_ATTENTION
    },
    mlp_norm: "ffn_norm",
    gate: "feed_forward.w1",
    up: "feed_forward.w3",
    down: "feed_forward.w2",
    ..LLAMA
};

/// Gemma 4, whose mixtures stand beside MLPs.
pub const GEMMA4: BlockNames = BlockNames {
    beside: Some(BesideNames {
        mlp_out_norm: "post_feedforward_layernorm_1",
        experts_norm: "pre_feedforward_layernorm_2",
        experts_out_norm: "post_feedforward_layernorm_2",
        router_scale: "router.scale",
    }),
    ..GEMMA
};

/// The image tower of Gemma 4, whose projections lie in parts of their own beside their bounds.
pub const GEMMA4_VISION: BlockNames = BlockNames {
    attention: AttentionNames {
        q: "self_attn.q_proj.linear",
        k: "self_attn.k_proj.linear",
        v: "self_attn.v_proj.linear",
        out: "self_attn.o_proj.linear",
        ..SELF_ATTENTION
    },
    gate: "mlp.gate_proj.linear",
    up: "mlp.up_proj.linear",
    down: "mlp.down_proj.linear",
    ..GEMMA
};

/// GLM-4: four norms a block, named by what they stand behind, and one matrix into the MLP.
pub const GLM: BlockNames = BlockNames {
    attention_out_norm: "post_self_attn_layernorm",
    gate: "mlp.gate_up_proj",
    up: "mlp.gate_up_proj",
    mlp_out_norm: "post_mlp_layernorm",
    ..LLAMA
};

/// CLIP and SigLIP, image and text towers.
pub const CLIP: BlockNames = BlockNames {
    attention_norm: "layer_norm1",
    attention: AttentionNames { out: "self_attn.out_proj", ..SELF_ATTENTION },
    mlp_norm: "layer_norm2",
    gate: "",
    up: "mlp.fc1",
    down: "mlp.fc2",
    ..LLAMA
};

/// Whisper's encoder and decoder, and the audio towers that follow it.
pub const WHISPER: BlockNames = BlockNames {
    attention_norm: "self_attn_layer_norm",
    attention: CLIP.attention,
    cross_norm: "encoder_attn_layer_norm",
    cross: AttentionNames {
        q: "encoder_attn.q_proj",
        k: "encoder_attn.k_proj",
        v: "encoder_attn.v_proj",
        out: "encoder_attn.out_proj",
        ..SELF_ATTENTION
    },
    mlp_norm: "final_layer_norm",
    gate: "",
    up: "fc1",
    down: "fc2",
    ..LLAMA
};

const QWEN_ATTENTION: AttentionNames = AttentionNames {
    q: "attn.q",
    k: "attn.k",
    v: "attn.v",
    fused: "attn.qkv",
    out: "attn.proj",
    ..SELF_ATTENTION
};

/// The image tower of Qwen2-VL.
pub const QWEN2_VISION: BlockNames = BlockNames {
    attention_norm: "norm1",
    attention: QWEN_ATTENTION,
    mlp_norm: "norm2",
    gate: "",
    up: "mlp.fc1",
    down: "mlp.fc2",
    ..LLAMA
};

/// The image tower of Qwen2.5-VL.
pub const QWEN2_5_VISION: BlockNames =
    BlockNames { gate: LLAMA.gate, up: LLAMA.up, down: LLAMA.down, ..QWEN2_VISION };

/// The image tower of Qwen3-VL.
pub const QWEN3_VISION: BlockNames =
    BlockNames { up: "mlp.linear_fc1", down: "mlp.linear_fc2", ..QWEN2_VISION };

/// DINOv3.
pub const DINOV3: BlockNames = BlockNames {
    attention_norm: "norm1",
    attention: AttentionNames {
        q: "attention.q_proj",
        k: "attention.k_proj",
        v: "attention.v_proj",
        out: "attention.o_proj",
        ..SELF_ATTENTION
    },
    attention_scale: "layer_scale1.lambda1",
    mlp_norm: "norm2",
    mlp_scale: "layer_scale2.lambda1",
    ..LLAMA
};

/// The tower of Pixtral and Mistral 3.
pub const PIXTRAL: BlockNames = BlockNames {
    attention_norm: "attention_norm",
    attention: DINOV3.attention,
    mlp_norm: "ffn_norm",
    gate: "feed_forward.gate_proj",
    up: "feed_forward.up_proj",
    down: "feed_forward.down_proj",
    ..LLAMA
};

/// The tower of InternVL.
pub const INTERNVL: BlockNames = BlockNames {
    attention_norm: "layernorm_before",
    attention: AttentionNames {
        out: "attention.projection_layer",
        q_norm: "attention.q_norm",
        k_norm: "attention.k_norm",
        ..DINOV3.attention
    },
    attention_scale: "lambda_1",
    mlp_norm: "layernorm_after",
    gate: "",
    up: "mlp.fc1",
    down: "mlp.fc2",
    mlp_scale: "lambda_2",
    ..LLAMA
};

/// BERT and the encoders that follow it: each norm stands behind what it normalizes.
pub const BERT: BlockNames = BlockNames {
    attention_norm: "attention.output.LayerNorm",
    attention: AttentionNames {
        q: "attention.self.query",
        k: "attention.self.key",
        v: "attention.self.value",
        out: "attention.output.dense",
        ..SELF_ATTENTION
    },
    mlp_norm: "output.LayerNorm",
    gate: "",
    up: "intermediate.dense",
    down: "output.dense",
    ..LLAMA
};
