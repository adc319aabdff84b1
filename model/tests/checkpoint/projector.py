"""Makes projector.json: what a projector's GGUF file (mmproj) of each parity case, and that of Whisper, holds by gguf-py's own
tables of names.

Usage: projector.py PARITY   (the folder tests/parity)

A tensor is its extents and a sum over its f32 bit patterns, each weighted with its odd position. Keys are those of
gguf.Keys that llama.cpp's converter writes for the family. Three things are not in gguf-py and are written out here:
queries, keys and values of Qwen2-VL and Qwen2.5-VL are three tensors; patches of two frames are two; the two layers of
LLaVA's projector, kind `mlp`, are mm.0 and mm.2.

Made with gguf 0.19.0, numpy 2.4.6.
"""
import json, os, sys
import gguf, numpy as np
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
V, T = gguf.Keys.ClipVision, gguf.MODEL_TENSOR
KINDS = {
    "qwen2-vl-image": gguf.VisionProjectorType.QWEN2VL,
    "qwen2-5-vl-image": gguf.VisionProjectorType.QWEN25VL,
    "qwen3-vl-image": gguf.VisionProjectorType.QWEN3VL,
    "gemma3": gguf.VisionProjectorType.GEMMA3,
    "smolvlm-image": gguf.VisionProjectorType.IDEFICS3,
    "llava": "mlp",
}


def digest(array):
    bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return str(int((bits * (2 * np.arange(bits.size, dtype=np.uint64) + 1)).sum(dtype=np.uint64)))


def pieces(name, x, vision, case, names):
    """The tensors of a file that a tensor of the checkpoint becomes."""
    get = lambda n: names.get_name(n, try_suffixes=(".weight", ".bias"))
    ds = "model.visual.deepstack_merger_list."
    if name.startswith(ds):
        k, part, suffix = name[len(ds):].split(".")
        kind = {"norm": T.V_DS_NORM, "linear_fc1": T.V_DS_FC1, "linear_fc2": T.V_DS_FC2}[part]
        block = vision["deepstack_visual_indexes"][int(k)]
        return [(gguf.TENSOR_NAMES[kind].format(bid=block) + "." + suffix, x)]
    name = name.replace("model.visual.", "visual.")
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    if name == "visual.patch_embed.proj.weight":
        patch = gguf.TENSOR_NAMES[T.V_ENC_EMBD_PATCH] + ".weight"
        return [(patch, x[:, :, 0]), (patch + ".1", x[:, :, 1])]
    if ".qkv." in name and case != "qwen3-vl-image":
        return [(get(name.replace("qkv", part)), y) for part, y in zip("qkv", np.split(x, 3))]
    for i, part in (0, "linear_fc1"), (2, "linear_fc2"):
        if name.startswith("visual.merger." + part):
            return [(gguf.TENSOR_NAMES[T.V_MMPROJ].format(bid=i) + "." + name.rsplit(".", 1)[1], x)]
        if name.startswith("multi_modal_projector." + part.replace("fc", "")):
            return [(gguf.TENSOR_NAMES[T.V_MMPROJ].format(bid=i) + "." + name.rsplit(".", 1)[1], x)]
    if name.startswith("visual.merger.norm."):
        return [(gguf.TENSOR_NAMES[T.V_POST_NORM] + "." + name.rsplit(".", 1)[1], x)]
    if name.endswith("soft_emb_norm.weight"):
        x = x + np.float32(1)
    if name.endswith("mm_input_projection_weight"):
        name = name.replace("_weight", ".weight")
    return [(get(name), x)]


def keys(case, config, image):
    v, text = config["vision_config"], config["text_config"]
    qwen = case.startswith("qwen")
    side = int(round(v["num_position_embeddings"] ** 0.5)) if "num_position_embeddings" in v else 0
    out = {
        gguf.Keys.Clip.PROJECTOR_TYPE: KINDS[case], gguf.Keys.Clip.HAS_VISION_ENCODER: True,
        gguf.Keys.General.ARCHITECTURE: "clip", gguf.Keys.General.TYPE: gguf.GGUFType.MMPROJ,
        V.PROJECTION_DIM: text["hidden_size"], V.PATCH_SIZE: v["patch_size"],
        V.EMBEDDING_LENGTH: v.get("embed_dim", v["hidden_size"]), V.BLOCK_COUNT: v.get("depth", v.get("num_hidden_layers")),
        V.Attention.HEAD_COUNT: v.get("num_heads", v.get("num_attention_heads")),
        V.IMAGE_SIZE: v.get("image_size", side * v["patch_size"] or 560),
        V.IMAGE_MEAN: image["image_mean"], V.IMAGE_STD: image["image_std"],
    }
    if not qwen:
        out[V.FEED_FORWARD_LENGTH] = v["intermediate_size"]
        out[V.Attention.LAYERNORM_EPS] = v["layer_norm_eps"]
    if case in ("qwen3-vl-image", "gemma3", "smolvlm-image"):
        out[V.USE_GELU] = True
    if case == "qwen2-5-vl-image":
        out[V.USE_SILU] = True
        out[V.N_WA_PATTERN] = v["fullatt_block_indexes"][0] + 1
    if case == "qwen3-vl-image":
        out[V.SPATIAL_MERGE_SIZE] = v["spatial_merge_size"]
        out[V.IS_DEEPSTACK_LAYERS] = [i in v["deepstack_visual_indexes"] for i in range(v["depth"])]
    if case == "gemma3":
        side = v["image_size"] // v["patch_size"]
        out[V.Projector.SCALE_FACTOR] = side // int(config["mm_tokens_per_image"] ** 0.5)
    if case == "smolvlm-image":
        out[V.Projector.SCALE_FACTOR] = config["scale_factor"]
        out[V.PREPROC_IMAGE_SIZE] = image["size"]["longest_edge"]
    if case == "llava":
        # The state behind the last block but one.
        out[V.BLOCK_COUNT] -= 1
        out["clip.vision.feature_layer"] = [out[V.BLOCK_COUNT]]
    return out


def whisper(folder):
    """Whisper by gguf-py's names of an audio tower's parts and of a decoder's behind an encoder."""
    names = lambda kind, **k: gguf.TENSOR_NAMES[kind].format(**k)
    block = {
        "self_attn_layer_norm": (T.A_ENC_INPUT_NORM, T.DEC_ATTN_NORM), "self_attn.q_proj": (T.A_ENC_ATTN_Q, T.DEC_ATTN_Q),
        "self_attn.k_proj": (T.A_ENC_ATTN_K, T.DEC_ATTN_K), "self_attn.v_proj": (T.A_ENC_ATTN_V, T.DEC_ATTN_V),
        "self_attn.out_proj": (T.A_ENC_OUTPUT, T.DEC_ATTN_OUT), "fc1": (T.A_ENC_FFN_UP, T.DEC_FFN_UP),
        "fc2": (T.A_ENC_FFN_DOWN, T.DEC_FFN_DOWN), "final_layer_norm": (T.A_ENC_OUTPUT_NORM, T.DEC_FFN_NORM),
        "encoder_attn_layer_norm": (None, T.DEC_CROSS_ATTN_NORM), "encoder_attn.q_proj": (None, T.DEC_CROSS_ATTN_Q),
        "encoder_attn.k_proj": (None, T.DEC_CROSS_ATTN_K), "encoder_attn.v_proj": (None, T.DEC_CROSS_ATTN_V),
        "encoder_attn.out_proj": (None, T.DEC_CROSS_ATTN_OUT),
    }
    fixed = {
        "encoder.conv1": names(T.A_ENC_CONV1D, bid=1), "encoder.conv2": names(T.A_ENC_CONV1D, bid=2),
        "encoder.embed_positions": names(T.A_ENC_EMBD_POS), "encoder.layer_norm": names(T.A_POST_NORM),
        "decoder.embed_tokens": names(T.TOKEN_EMBD), "decoder.embed_positions": names(T.POS_EMBD),
        "decoder.layer_norm": names(T.DEC_OUTPUT_NORM),
    }
    tensors = {}
    for name, x in load_file(os.path.join(folder, "model.safetensors")).items():
        stem, suffix = name.removeprefix("model.").rsplit(".", 1)
        if stem in fixed:
            ggml = fixed[stem]
        else:
            side, _, number, part = stem.split(".", 3)
            ggml = names(block[part][side == "decoder"], bid=number)
        tensors[ggml + "." + suffix] = {"dims": list(x.shape), "digest": digest(x)}
    c, L, A = json.load(open(os.path.join(folder, "config.json"))), gguf.Keys.LLM, gguf.Keys.ClipAudio
    own = lambda key: key.format(arch="whisper")
    return {"tensors": tensors, "keys": {
        gguf.Keys.General.ARCHITECTURE: "whisper", own(L.VOCAB_SIZE): c["vocab_size"], own(L.CONTEXT_LENGTH): c["max_target_positions"],
        own(L.EMBEDDING_LENGTH): c["d_model"], own(L.BLOCK_COUNT): c["decoder_layers"],
        own(L.FEED_FORWARD_LENGTH): c["decoder_ffn_dim"], own(L.DECODER_START_TOKEN_ID): c["decoder_start_token_id"],
        own(gguf.Keys.Attention.HEAD_COUNT): c["decoder_attention_heads"], A.NUM_MEL_BINS: c["num_mel_bins"],
        A.MAX_POS_EMB: c["max_source_positions"], A.EMBEDDING_LENGTH: c["d_model"], A.BLOCK_COUNT: c["encoder_layers"],
        A.FEED_FORWARD_LENGTH: c["encoder_ffn_dim"], A.Attention.HEAD_COUNT: c["encoder_attention_heads"],
    }}


expected = {"whisper": whisper(os.path.join(sys.argv[1], "whisper", "model"))}
for case in KINDS:
    folder = os.path.join(sys.argv[1], case, "model")
    read = lambda name: json.load(open(os.path.join(folder, name)))
    config, image = read("config.json"), read("processor_config.json")["image_processor"]
    found = keys(case, config, image)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 64)
    tensors = {}
    for name, x in load_file(os.path.join(folder, "model.safetensors")).items():
        if any(part in name for part in ("language_model", "text_model", "lm_head")) or name.startswith(("model.embed_tokens", "model.layers", "model.norm")):
            continue
        # Nothing reads what is behind the state that LLaVA takes.
        if case == "llava" and (f"encoder.layers.{found[V.BLOCK_COUNT]}." in name or "post_layernorm" in name):
            continue
        for ggml, y in pieces(name, x, config["vision_config"], case, names):
            assert ggml, name
            tensors[ggml] = {"dims": list(y.shape), "digest": digest(y)}
    expected[case] = {"tensors": tensors, "keys": found}
with open(os.path.join(HERE, "projector.json"), "w") as f:
    json.dump(expected, f, indent=1, sort_keys=True)
    f.write("\n")
