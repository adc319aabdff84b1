"""Makes the small files under gguf/, safetensors/ and ctranslate2/: one sound file each, and files that lie."""
import json, os, struct

HERE = os.path.dirname(os.path.abspath(__file__))


def put(folder, name, data):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "wb") as f:
        f.write(data)


def s(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


u32 = lambda key, v: s(key) + struct.pack("<II", 4, v)
txt = lambda key, v: s(key) + struct.pack("<I", 8) + s(v)
f32 = lambda key, v: s(key) + struct.pack("<If", 6, v)
texts = lambda key, all: s(key) + struct.pack("<IIQ", 9, 8, len(all)) + b"".join(map(s, all))
i32s = lambda key, all: s(key) + struct.pack("<IIQ", 9, 5, len(all)) + struct.pack(f"<{len(all)}i", *all)
info = lambda name, dims, kind, at: s(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, at)

KEYS = [txt("general.architecture", "llama"), u32("llama.block_count", 1), u32("llama.context_length", 8),
        u32("llama.embedding_length", 32), u32("llama.feed_forward_length", 32), u32("llama.attention.head_count", 1),
        f32("llama.attention.layer_norm_rms_epsilon", 1e-5), txt("tokenizer.ggml.model", "gpt2"),
        texts("tokenizer.ggml.tokens", ["a", "b"]), i32s("tokenizer.ggml.token_type", [1, 3]),
        texts("tokenizer.ggml.merges", ["a b"]), u32("tokenizer.ggml.eos_token_id", 1),
        txt("tokenizer.chat_template", "{{ messages }}")]
# A table of Q8_0, queries of Q4_0 with permuted rows, a norm of f32.
INFOS = [info("token_embd.weight", [32, 2], 8, 0), info("blk.0.attn_q.weight", [32, 4], 2, 96),
         info("output_norm.weight", [32], 0, 192)]


def gguf(keys=KEYS, infos=INFOS, data=bytes(320), counts=None, version=3):
    n, k = counts or (len(infos), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, n, k) + b"".join(keys) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data


put("gguf", "sound", gguf())
put("gguf", "version2", gguf(version=2))
put("gguf", "many_tensors", gguf(counts=(2**63, len(KEYS))))
put("gguf", "many_keys", gguf(counts=(3, 2**61)))
put("gguf", "long_array", gguf(keys=KEYS + [s("x") + struct.pack("<IIQ", 9, 8, 2**40)]))
put("gguf", "nested_array", gguf(keys=KEYS + [s("x") + struct.pack("<IIQIQ", 9, 9, 1, 9, 1)]))
put("gguf", "not_utf8", gguf(keys=KEYS + [s("x") + struct.pack("<I", 8) + s(b"\xff\xfe")]))
put("gguf", "huge_extents", gguf(infos=[info("w", [2**63, 2**63, 2, 2], 0, 0)]))
put("gguf", "no_elements", gguf(infos=[info("blk.0.attn_q.weight", [2**60, 0], 0, 0)]))
put("gguf", "far_offset", gguf(infos=[info("w", [32], 0, 2**64 - 32)]))
put("gguf", "overlap", gguf(infos=[info("a", [64], 0, 0), info("b", [64], 0, 128)]))
put("gguf", "five_dimensions", gguf(infos=[info("w", [1] * 5, 0, 0)]))
put("gguf", "half_block", gguf(infos=[info("w", [33, 2], 8, 0)]))
put("gguf", "q5_k", gguf(infos=[info("w", [256], 13, 0)]))
put("gguf", "alignment_zero", gguf(keys=KEYS + [u32("general.alignment", 0)]))


def safetensors(header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


one = lambda dtype, shape, at: {"dtype": dtype, "shape": shape, "data_offsets": at}
put("safetensors", "sound", safetensors({"__metadata__": {"format": "pt"}, "a": one("F32", [2], [0, 8]), "b": one("BF16", [2, 2], [8, 16])}))
put("safetensors", "integers", safetensors({"i": one("I64", [1], [0, 8]), "b": one("BOOL", [8], [8, 16])}))
put("safetensors", "long_header", safetensors({}, length=2**63))
put("safetensors", "huge_shape", safetensors({"a": one("F32", [2**62, 8], [0, 16])}))
put("safetensors", "overlap", safetensors({"a": one("F32", [3], [0, 12]), "b": one("F32", [3], [4, 16])}))
put("safetensors", "past_the_end", safetensors({"a": one("F32", [8], [0, 32])}))
put("safetensors", "float8", safetensors({"a": one("F8_E4M3", [16], [0, 16])}))
put("safetensors", "deep", safetensors(b"[" * 4000))


def c(text):
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def variable(name, dims, kind, data, count=None):
    return c(name) + struct.pack("<B", len(dims)) + struct.pack(f"<{len(dims)}I", *dims) + struct.pack("<BI", kind, len(data) if count is None else count) + data


VARIABLES = [variable("encoder/num_heads", [], 2, struct.pack("<h", 1)),
             variable("decoder/embeddings/weight", [3, 4], 1, bytes(range(12))),
             variable("decoder/embeddings/weight_scale", [3], 0, struct.pack("<3f", 1, 2, 4)),
             variable("encoder/conv1/weight", [4, 2, 3], 4, bytes(48)),
             variable("encoder/position_encodings/encodings", [5, 4], 4, bytes(40)),
             variable("decoder/position_encodings/encodings", [5, 4], 4, bytes(40)),
             variable("encoder/layer_norm/gamma", [4], 4, bytes(8)),
             variable("encoder/layer_0/ffn/linear_0/weight", [8, 4], 4, bytes(64)),
             variable("decoder/layer_0/ffn/linear_0/weight", [8, 4], 4, bytes(64)),
             variable("encoder/layer_0/self_attention/linear_0/weight", [12, 4], 4, bytes(96)),
             variable("encoder/layer_0/self_attention/linear_0/bias", [12], 4, bytes(24))]


def model_bin(variables=VARIABLES, aliases=(("decoder/projection/weight", "decoder/embeddings/weight"),), count=None, spec="WhisperSpec"):
    head = struct.pack("<I", 6) + c(spec) + struct.pack("<II", 3, len(variables) if count is None else count)
    return head + b"".join(variables) + struct.pack("<I", len(aliases)) + b"".join(c(a) + c(b) for a, b in aliases)


put("ctranslate2", "sound", model_bin())
put("ctranslate2", "many_variables", model_bin(count=2**32 - 1))
put("ctranslate2", "wrong_bytes", model_bin([variable("w", [2**31, 2**31, 2**31], 0, b"", 2**32 - 1)]))
put("ctranslate2", "no_such_alias", model_bin(aliases=(("a", "b"),)))
put("ctranslate2", "other_spec", model_bin(spec="TransformerSpec"))
put("ctranslate2", "odd_rows", model_bin(VARIABLES + [variable("encoder/layer_1/self_attention/linear_0/weight", [4, 4], 4, bytes(32))]))
put("ctranslate2", "odd_scales", model_bin(VARIABLES[:2] + [variable("decoder/embeddings/weight_scale", [2], 0, bytes(8))] + VARIABLES[3:]))
