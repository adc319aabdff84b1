"""Write tiny GGUF files of architectures that Percept reads, and what transformers says of the same weights.

usage: make.py LLAMA_CPP OUT [name ...]
LLAMA_CPP is a checkout of llama.cpp, whose converter makes the files; its gguf-py is used too. Each OUT/NAME.gguf holds random
weights that f16 keeps exactly, so the expected logits, OUT/expected.json, are those of the file. Every model is drawn again
until the best two logits of each of the eight greedy tokens are 0.02 apart. Made with transformers 5.24 and torch 2.15.
"""
import json, os, sys, tempfile
from pathlib import Path

LLAMA, OUT = Path(sys.argv[1]), Path(sys.argv[2])
PICK = sys.argv[3:]
sys.path[:0] = [str(LLAMA), str(LLAMA / "gguf-py")]
import gguf
import torch
import transformers as T
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

VOCAB = 64
PROMPT = [1, 17, 5, 60, 33, 8, 8, 41, 22, 3, 54, 29, 12, 47, 6, 35]
TOKENS = ["<pad>", "<s>", "</s>", "ab"] + [chr(c) for c in range(ord("0"), ord("0") + VOCAB - 4)]
BASE = dict(vocab_size=VOCAB, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
            intermediate_size=64, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            tie_word_embeddings=True)
MOE = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32)
MLA = dict(q_lora_rank=None, kv_lora_rank=32, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=8,
           num_experts_per_tok=3, moe_intermediate_size=32, first_k_dense_replace=1, num_key_value_heads=4)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32, mscale=0.7, mscale_all_dim=0.7,
            beta_fast=32, beta_slow=1)
DELTA = dict(num_hidden_layers=3, layer_types=["linear_attention", "linear_attention", "full_attention"], head_dim=16,
             linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=16, linear_value_head_dim=16,
             rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5, mrope_section=[2, 1, 1],
                                  mrope_interleaved=True))
FOUR = dict(head_dim=8, num_hidden_layers=4, sliding_window=6, final_logit_softcapping=20.0, num_key_value_heads=2,
            layer_types=["sliding_attention", "full_attention"] * 2,
            rope_parameters=dict(full_attention=dict(rope_type="proportional", partial_rotary_factor=0.5, rope_theta=1e5),
                                 sliding_attention=dict(rope_type="default", rope_theta=1e4)))
WIDE = {1: dict(head_dim=16), 3: dict(head_dim=16)}

# name: configuration, model, values
MODELS = {
    "qwen3moe": (T.Qwen3MoeConfig, T.Qwen3MoeForCausalLM, {**MOE, "norm_topk_prob": True, "head_dim": 16}),
    "qwen35": (T.Qwen3_5TextConfig, T.Qwen3_5ForCausalLM, DELTA),
    "qwen35moe": (T.Qwen3_5MoeTextConfig, T.Qwen3_5MoeForCausalLM, {**DELTA, **MOE, "num_experts": 4,
                  "shared_expert_intermediate_size": 32, "num_hidden_layers": 2, "layer_types": DELTA["layer_types"][1:]}),
    "gemma": (T.GemmaConfig, T.GemmaForCausalLM, dict(head_dim=16)),
    "gemma4": (T.Gemma4TextConfig, T.Gemma4ForCausalLM, {**FOUR, "per_layer_config": WIDE, "hidden_size_per_layer_input": 8,
               "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 2, "use_double_wide_mlp": True}),
    "gemma4moe": (T.Gemma4TextConfig, T.Gemma4ForCausalLM, {**FOUR, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True,
                  "per_layer_config": {1: {"head_dim": 16, "num_key_value_heads": 1}}, "enable_moe_block": True,
                  "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32, "num_hidden_layers": 2,
                  "layer_types": FOUR["layer_types"][:2]}),
    "deepseek2": (T.DeepseekV2Config, T.DeepseekV2ForCausalLM, {**MLA, "n_shared_experts": 2, "routed_scaling_factor": 1.5,
                  "topk_method": "greedy", "n_routed_experts": 5, "n_group": 1, "topk_group": 1, "tie_word_embeddings": False}),
    "deepseek3": (T.DeepseekV3Config, T.DeepseekV3ForCausalLM, {**MLA, "q_lora_rank": 32, "n_shared_experts": 1, "n_group": 4,
                  "topk_group": 2, "routed_scaling_factor": 2.5, "rope_parameters": YARN, "norm_topk_prob": True,
                  "scoring_func": "sigmoid"}),
    "glm4": (T.Glm4Config, T.Glm4ForCausalLM, dict(head_dim=16, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1e-5)),
    "granite": (T.GraniteConfig, T.GraniteForCausalLM, dict(attention_multiplier=0.3, embedding_multiplier=3.0,
                residual_multiplier=0.7, logits_scaling=2.0, rms_norm_eps=1e-5, tie_word_embeddings=False)),
    "lfm2": (T.Lfm2Config, T.Lfm2ForCausalLM, dict(num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"],
             block_auto_adjust_ff_dim=True, block_multiple_of=16, block_ffn_dim_multiplier=1.0, conv_L_cache=3)),
}


def randomize(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            r, leaf = torch.randn(p.shape, generator=g), name.rsplit(".", 1)[-1]
            if leaf == "A_log": p.copy_(r - 1)
            elif leaf == "dt_bias": p.copy_(r * 0.5)
            elif p.dim() >= 2: p.copy_(r * (0.9 / max(p.shape[-1], 8) ** 0.5))
            elif leaf == "bias": p.copy_(r * 0.1)
            else: p.copy_(p + 0.2 * r)
            p.copy_(p.half().float())
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"): b.copy_(torch.randn(b.shape, generator=g) * 0.2)
            if name.endswith("layer_scalar"): b.copy_(0.8 + 0.1 * torch.randn(b.shape, generator=g))
    return model.eval()


def greedy(model):
    ids, first, margin = list(PROMPT), None, 1e9
    with torch.no_grad():
        for _ in range(8):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()
            first = logits.tolist() if first is None else first
            logits[2] = -1e9  # the end, which is not taken
            best = logits.topk(2)
            margin = min(margin, float(best[0][0] - best[0][1]))
            ids.append(int(best[1][0]))
    return first, ids[len(PROMPT):], margin


def write(model, name, out, kind=gguf.LlamaFileType.MOSTLY_F16):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        params = ModelBase.load_hparams(Path(folder), False)
        cls = get_model_class(get_model_architecture(params, ModelType.TEXT))
        cls.no_mtp, cls.mtp_only = True, False

        def vocabulary(self):
            w = self.gguf_writer
            w.add_tokenizer_model("gemma4" if name.startswith("gemma4") else "gpt2")
            if not name.startswith("gemma4"): w.add_tokenizer_pre("qwen2")
            w.add_token_list(TOKENS)
            w.add_token_scores([0.0] * VOCAB)
            w.add_token_types([3, 3, 3] + [1] * (VOCAB - 3))
            w.add_token_merges(["a b"])
            w.add_bos_token_id(1), w.add_eos_token_id(2), w.add_pad_token_id(0), w.add_add_bos_token(False)

        cls.set_vocab = vocabulary
        if name.startswith("gemma4") and not hasattr(cls, "inner"):
            cls.inner, cls.modify_tensors = cls.modify_tensors, uncut
        with torch.inference_mode():
            cls(Path(folder), kind, out).write()


def uncut(self, data, name, bid):
    """Gemma 4's table without the cut at the vocabulary of tokenizer.json, which is not there."""
    if name == "model.embed_tokens.weight":
        return [(self.map_tensor_name(name), data)]
    return self.inner(data, name, bid)


OUT.mkdir(parents=True, exist_ok=True)
place = OUT / "expected.json"
expected = json.loads(place.read_text()) if place.exists() else {}
for name, (config, model, values) in MODELS.items():
    if PICK and name not in PICK:
        continue
    for seed in range(200):
        made = randomize(model._from_config(config(**{**BASE, **values}), attn_implementation="eager"), seed)
        logits, tokens, margin = greedy(made)
        if margin > 0.02 and len(set(tokens)) > 3:
            break
    write(made, name, OUT / f"{name}.gguf")
    if name == "qwen35":
        write(made, name, OUT / f"{name}-q8_0.gguf", gguf.LlamaFileType.MOSTLY_Q8_0)
    expected[name] = dict(prompt=PROMPT, logits=[round(v, 6) for v in logits], tokens=tokens)
    print(name, seed, round(margin, 4), (OUT / f"{name}.gguf").stat().st_size, flush=True)
place.write_text(json.dumps(expected) + "\n")
