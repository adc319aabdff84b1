"""Makes the files beside it: small checkpoints written by other people's programs, and what those programs read back.

Usage: make.py WHISPER   (a Hugging Face folder of a small Whisper, such as tests/parity/whisper/model)

gguf writes the GGUF files and transformers loads them; ctranslate2's converter writes the Whisper folders, whose
values are worked out from the Hugging Face weights. A tensor is recorded as its shape and as a sum over its f32 bit
patterns, each weighted with its odd position, so that neither values nor their order can differ unnoticed.

Made with gguf 0.19.0, transformers 5.23.0, ctranslate2 4.8.5, numpy 2.4.6.
"""
import json, os, shutil, subprocess, sys, tempfile
import gguf, numpy as np, torch
from gguf import GGMLQuantizationType as T
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "vocab_size",
          "tie_word_embeddings", "sliding_window", "hidden_act", "hidden_activation", "rope_parameters"]
rng = np.random.default_rng(7)


def digest(array):
    bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return str(int((bits * (2 * np.arange(bits.size, dtype=np.uint64) + 1)).sum(dtype=np.uint64)))


def record(tensors):
    return {name: {"dims": list(a.shape), "digest": digest(a)} for name, a in sorted(tensors.items())}


def blocks(shape, kind):
    """Blocks of a K-quant, which gguf-py does not make: random integers under small scales."""
    size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (shape[0], shape[1] // size, bytes_), np.uint8)
    scale = lambda: rng.uniform(1e-4, 1e-2, raw.shape[:2]).astype(np.float16).view(np.uint8).reshape(*raw.shape[:2], 2)
    if kind == T.Q4_K:
        raw[..., 0:2], raw[..., 2:4] = scale(), scale()
    else:
        raw[..., 208:210] = scale()
    return raw.reshape(shape[0], -1)


class Writer:
    def __init__(self, arch, **keys):
        self.path = os.path.join(HERE, arch + ".gguf")
        self.w = gguf.GGUFWriter(self.path, arch)
        for key, value in keys.items():
            key = f"{arch}." + key.replace("__", ".")
            (self.w.add_float32 if isinstance(value, float) else self.w.add_uint32)(key, value)

    def add(self, name, shape, kind=T.F32):
        if kind in (T.Q4_K, T.Q6_K):
            self.w.add_tensor(name, blocks(shape, kind), raw_dtype=kind)
            return
        values = rng.normal(0, 0.1, shape).astype(np.float32)
        if kind in (T.F32, T.F16):
            self.w.add_tensor(name, values.astype(np.float32 if kind == T.F32 else np.float16))
        else:
            self.w.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def finish(self):
        for write in (self.w.write_header_to_file, self.w.write_kv_data_to_file, self.w.write_tensors_to_file):
            write()
        self.w.close()
        model = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=os.path.basename(self.path), dtype=torch.float32)
        tensors = {name: p.detach().numpy() for name, p in model.named_parameters()}
        config = json.loads(model.config.to_json_string(use_diff=False))
        return {"tensors": record(tensors), "config": {key: config[key] for key in CONFIG if key in config}}


def decoder(arch, hidden, q, kv, ffn, vocab, kinds, norms=(), head=False, bias=False, context=64, **keys):
    w = Writer(arch, embedding_length=hidden, block_count=1, feed_forward_length=ffn, context_length=context,
               vocab_size=vocab, attention__layer_norm_rms_epsilon=1e-5, **keys)
    kind = iter(kinds)
    w.add("token_embd.weight", (vocab, hidden), T.Q8_0)
    w.add("output_norm.weight", (hidden,))
    if head:
        w.add("output.weight", (vocab, hidden), T.Q8_0)
    for name, shape in [("attn_q", (q, hidden)), ("attn_k", (kv, hidden)), ("attn_v", (kv, hidden)),
                        ("attn_output", (hidden, q)), ("ffn_gate", (ffn, hidden)), ("ffn_up", (ffn, hidden)),
                        ("ffn_down", (hidden, ffn))]:
        w.add(f"blk.0.{name}.weight", shape, next(kind))
        if bias and name in ("attn_q", "attn_k", "attn_v"):
            w.add(f"blk.0.{name}.bias", shape[:1])
    for name, size in [("attn_norm", hidden), ("ffn_norm", hidden), *norms]:
        w.add(f"blk.0.{name}.weight", (size,))
    if arch == "llama":
        w.w.add_tokenizer_model("llama")
        w.w.add_token_list([f"t{i}" for i in range(vocab)])
        w.w.add_token_scores([-float(i) for i in range(vocab)])
        w.w.add_token_types([2, 3, 3] + [6] * 2 + [1] * (vocab - 5))
        w.w.add_token_merges(["t 1", "t 2"])
        w.w.add_bos_token_id(1)
        w.w.add_eos_token_id(2)
        w.w.add_add_bos_token(True)
        w.w.add_add_space_prefix(False)
        w.w.add_chat_template("{{ bos_token }}")
    return w.finish()


def whisper(folder):
    source = {k: v for k, v in load_file(os.path.join(folder, "model.safetensors")).items() if k != "proj_out.weight"}
    out = {}
    for kind in ("float16", "int8"):
        with tempfile.TemporaryDirectory() as tmp:
            target = os.path.join(tmp, "out")
            subprocess.run([os.path.join(os.path.dirname(sys.executable), "ct2-transformers-converter"), "--model",
                            folder, "--output_dir", target, "--quantization", kind], check=True)
            place = os.path.join(HERE, "whisper-" + kind)
            shutil.rmtree(place, ignore_errors=True)
            os.makedirs(place)
            for name in ("model.bin", "config.json", "vocabulary.json"):
                shutil.copy(os.path.join(target, name), place)
        out[kind] = {"tensors": record({k: stored_as(k, v, kind) for k, v in source.items()})}
    return out


def stored_as(name, x, kind):
    """What the converter leaves of a weight (ctranslate2/specs/model_spec.py)."""
    x = x.astype(np.float32)
    matrix = x.ndim > 1 and "embed_positions" not in name
    if kind == "float16":
        return x.astype(np.float16)
    if not matrix:
        return x
    flat = x.reshape(x.shape[0], -1)
    most = np.amax(np.absolute(flat), axis=1)
    most[most == 0] = 127.0
    scale = (127.0 / most).astype(np.float32)
    return (np.rint(flat * scale[:, None]).astype(np.int8).astype(np.float32) / scale[:, None]).reshape(x.shape)


heads = dict(attention__head_count=2, attention__head_count_kv=1)
expected = {
    "llama": decoder("llama", 256, 32, 16, 32, 16, [T.Q4_K, T.Q6_K, T.Q8_0, T.Q4_0, T.Q4_1, T.F16, T.BF16],
                     attention__key_length=16, attention__value_length=16, rope__dimension_count=16,
                     rope__freq_base=5e5, **heads),
    "qwen2": decoder("qwen2", 32, 32, 16, 32, 16, [T.F32] * 7, bias=True, rope__freq_base=1e6, **heads),
    "qwen3": decoder("qwen3", 32, 256, 128, 32, 16, [T.Q8_0] * 7, norms=[("attn_q_norm", 128), ("attn_k_norm", 128)],
                     head=True, attention__key_length=128, attention__value_length=128, rope__freq_base=1e6, **heads),
    "gemma3": decoder("gemma3", 32, 64, 32, 32, 16, [T.F32] * 7,
                      norms=[("attn_q_norm", 32), ("attn_k_norm", 32), ("post_attention_norm", 32), ("post_ffw_norm", 32)],
                      attention__key_length=32, attention__value_length=32, attention__sliding_window=8,
                      rope__freq_base=1e6, **heads),
    "gemma2": decoder("gemma2", 32, 64, 32, 32, 16, [T.F32] * 7,
                      norms=[("post_attention_norm", 32), ("post_ffw_norm", 32)],
                      attention__key_length=32, attention__value_length=32, attention__sliding_window=8,
                      rope__freq_base=1e4, **heads),
    "whisper": whisper(sys.argv[1]),
}
with open(os.path.join(HERE, "expected.json"), "w") as f:
    json.dump(expected, f, indent=1, sort_keys=True)
    f.write("\n")
