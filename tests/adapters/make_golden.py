"""Adapters over the models of tests/parity, saved by PEFT, and what PEFT computes with them.

    python tests/adapters/make_golden.py

Made with peft 0.21, transformers 5.24 and torch 2.15 on the CPU in float32. Every adapter gets random values (in half
precision, to keep the files small) and is opened again from its folder before anything is computed. cases.json lists them;
expected.safetensors holds the last position's logits and the next ten greedy tokens with the end token suppressed, for
CLIP and SigLIP the embeddings, for Whisper the encoder's rows.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
torch.set_num_threads(2)

HERE = Path(__file__).parent
PARITY = HERE.parent / "parity"
TOKENS = 10


def base_model(base):
    folder = PARITY / base / "model"
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    # A relative path, as the adapters of the repository are to be opened anywhere.
    model.name_or_path = f"../../parity/{base}/model"
    model.config._name_or_path = model.name_or_path
    return model.eval()


def make(name, base, seed, size=0.3, keep_tables=False, **settings):
    """Train nothing: give every parameter of a new adapter random values and save it."""
    torch.manual_seed(seed)
    if name == "experts-each":
        return each_expert(HERE / name, base, seed, **settings)
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], **settings}
    model = get_peft_model(base_model(base), LoraConfig(**settings))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "magnitude" in key:
                p.mul_(1 + 0.3 * torch.rand_like(p))
            elif "lora_" in key or "modules_to_save" in key or "trainable_tokens" in key:
                p.add_(size * torch.randn_like(p))
            elif key.endswith(".bias") and p.requires_grad:
                p.add_(size * torch.randn_like(p))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=keep_tables)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, {"format": "pt"})
    return folder


def each_expert(folder, base, seed, **settings):
    """An adapter as transformers 4 had them, where every expert is three linear layers."""
    config = transformers.AutoConfig.from_pretrained(PARITY / base / "model").get_text_config()
    width, inner, heads = config.hidden_size, config.moe_intermediate_size, config.num_key_value_heads * config.head_dim
    modules = {f"layers.{layer}.self_attn.v_proj": (width, heads) for layer in range(config.num_hidden_layers)}
    for layer in (n for n in range(config.num_hidden_layers) if n not in config.mlp_only_layers):
        for expert in range(config.num_experts):
            for matrix in ("gate_proj", "up_proj", "down_proj"):
                ends = (inner, width) if matrix == "down_proj" else (width, inner)
                modules[f"layers.{layer}.mlp.experts.{expert}.{matrix}"] = ends
    found = {}
    for module, (k, n) in modules.items():
        found[f"base_model.model.model.{module}.lora_A.weight"] = 0.3 * torch.randn(2, k)
        found[f"base_model.model.model.{module}.lora_B.weight"] = 0.3 * torch.randn(n, 2)
    folder.mkdir(exist_ok=True)
    save_file({k: v.half() for k, v in found.items()}, folder / "adapter_model.safetensors", {"format": "pt"})
    LoraConfig(r=2, lora_alpha=4, base_model_name_or_path=f"../../parity/{base}/model", **settings).save_pretrained(folder)
    return folder


def tensors(path):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}


def opened(base, adapters):
    model = base_model(base)
    for i, (name, weight) in enumerate(adapters):
        if i == 0:
            model = PeftModel.from_pretrained(model, HERE / name, adapter_name="a0")
        else:
            model.load_adapter(HERE / name, adapter_name=f"a{i}")
    if len(adapters) > 1:
        model.base_model.set_adapter([f"a{i}" for i in range(len(adapters))])
    for i, (_, weight) in enumerate(adapters):
        for module in model.modules():
            if weight != 1 and hasattr(module, "set_scale"):
                module.set_scale(f"a{i}", weight)
    return model.eval()


@torch.no_grad()
def results(base, model):
    inputs = {k: v for k, v in tensors(PARITY / base / "inputs.safetensors").items()}
    inputs.pop("batch_num_images", None)
    if base in ("clip", "siglip"):
        out = model(**inputs)
        return {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds, "logits": out.logits_per_image}
    if base == "whisper":
        encoder = model.get_base_model().get_encoder()(inputs["input_features"]).last_hidden_state
        ids, said = inputs["decoder_input_ids"], []
        first = model(input_features=inputs["input_features"], decoder_input_ids=ids).logits
        for _ in range(TOKENS):
            logits = model(input_features=inputs["input_features"], decoder_input_ids=ids).logits[0, -1]
            said.append(int(logits.argmax()))
            ids = torch.cat([ids, logits.argmax()[None, None]], 1)
        return {"encoder": encoder, "logits": first, "generated": torch.tensor([said])}
    # A model that speaks has the one that understands inside.
    model = getattr(getattr(model, "base_model", model), "model", model) if "omni" in base else model
    model = getattr(model, "thinker", model)
    logits = model(**inputs).logits[0, -1]
    ends = model.generation_config.eos_token_id
    said = model.generate(
        **inputs, max_new_tokens=TOKENS, do_sample=False, suppress_tokens=ends if isinstance(ends, list) else [ends]
    )
    return {"logits": logits, "generated": said[:, inputs["input_ids"].shape[1] :]}


ALL = "all-linear"
TEXT = dict(layers_to_transform=[1])
# By the family's own names: a part of the tower, the connector and the decoder.
PARTS = {
    "gemma3": r".*(vision_tower.*layers\.0.*(q_proj|fc1)|language_model.*layers\.1.*(o_proj|up_proj))",
    "llava": r".*(vision_tower.*layers\.0.*(k_proj|fc2)|multi_modal_projector\.linear_1|language_model.*layers\.0.*v_proj)",
    "llava-onevision": r".*(patch_embedding|vision_tower.*layers\.0.*out_proj|multi_modal_projector\.linear_2|language_model.*layers\.1.*q_proj)",
    "qwen2-vl-image": r".*(patch_embed\.proj|visual.*blocks\.0.*(qkv|fc1)|merger\.mlp\.2|language_model.*layers\.0.*(q_proj|down_proj))",
    "qwen2-5-vl-image": r".*(visual.*blocks\.1.*(proj|gate_proj)|merger\.mlp\.0|language_model.*layers\.1.*k_proj)",
    "qwen3-vl-image": r".*(visual.*blocks\.0.*(qkv|linear_fc1)|merger.*linear_fc2|language_model.*layers\.0.*(q_proj|gate_proj))",
    "smolvlm-image": r".*(vision_model.*layers\.0.*(q_proj|fc1)|modality_projection\.proj|text_model.*layers\.0.*o_proj)",
    "qwen2-audio": r".*(audio_tower.*layers\.0.*(q_proj|fc1)|multi_modal_projector\.linear|language_model.*layers\.1.*v_proj)",
    "clip": r".*(vision_model.*layers\.0.*(q_proj|fc1)|text_model.*layers\.1.*v_proj|visual_projection|text_projection|token_embedding)",
    "siglip": r".*(patch_embedding|vision_model.*layers\.1.*(k_proj|fc2)|text_model.*layers\.0.*q_proj|position_embedding|head\.(attention|mlp\.fc1))",
    "whisper": r".*(encoder\.layers\.0.*(q_proj|fc1)|decoder\.layers\.0\.(encoder_attn\.(k|v)_proj|self_attn\.q_proj))",
}

EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]

CASES = [
    ("patterns", "llama", dict(r=4, rank_pattern={"v_proj": 2}, alpha_pattern={"q_proj": 16, "layers.2.*v_proj": 1}, use_rslora=True)),
    ("layers", "llama", dict(target_modules=["mlp.down_proj", "model.layers.0.mlp.up_proj"], layers_to_transform=[2], layers_pattern="layers", exclude_modules=["layers.1.mlp.down_proj"])),
    ("pissa", "llama", dict(r=3, init_lora_weights="pissa", size=0.05)),
    ("olora", "llama", dict(r=2, init_lora_weights="olora", lora_alpha=3, size=0.1)),
    ("dora", "llama", dict(use_dora=True, target_modules=ALL, layers_pattern=None)),
    ("dora-pissa", "llama", dict(use_dora=True, init_lora_weights="pissa", size=0.05)),
    ("dora-table", "llama", dict(use_dora=True, target_modules=["embed_tokens", "k_proj"])),
    ("table", "llama", dict(target_modules=["embed_tokens", "o_proj"])),
    ("table-kept", "llama", dict(target_modules=["embed_tokens"], r=1, keep_tables=True)),
    ("table-tied", "llama", dict(target_modules=["embed_tokens"], ensure_weight_tying=True)),
    ("head", "llama", dict(target_modules=["lm_head", "v_proj"])),
    ("save-head", "llama", dict(modules_to_save=["lm_head"], layers_to_transform=[0], size=0.02)),
    ("save-table", "llama", dict(modules_to_save=["embed_tokens"], layers_to_transform=[0], size=0.02)),
    ("save-tied", "llama", dict(modules_to_save=["embed_tokens"], ensure_weight_tying=True, layers_to_transform=[0], size=0.02)),
    ("save-norm", "llama", dict(modules_to_save=["norm", "input_layernorm"], layers_to_transform=[0])),
    ("tokens", "llama", dict(trainable_token_indices=[3, 48, 76, 17, 200])),
    ("tokens-apart", "llama", dict(trainable_token_indices={"embed_tokens": [3, 48], "lm_head": [84, 40, 162]})),
    ("gaussian", "llama", dict(init_lora_weights="gaussian", lora_dropout=0.1)),
    ("biases", "qwen2", dict(bias="all", layers_to_transform=[0])),
    ("lora-only", "qwen2", dict(bias="lora_only", target_modules=["k_proj"])),
    ("lora-bias", "qwen2", dict(lora_bias=True, target_modules=["q_proj", "k_proj"])),
    ("lora-bias-none", "llama", dict(lora_bias=True)),
    ("head-untied", "qwen2", dict(target_modules=["lm_head", "embed_tokens"])),
    ("dora-bias", "qwen2", dict(use_dora=True, target_modules=["q_proj", "k_proj", "v_proj"])),
    ("gemma-table", "gemma3-text", dict(target_modules=["embed_tokens", "q_proj"], layers_to_transform=None)),
    ("gemma-dora-table", "gemma3-text", dict(use_dora=True, target_modules=["embed_tokens"])),
    *[(f"parts-{b}", b, dict(target_modules=t)) for b, t in PARTS.items()],
    ("dora-qwen2-vl", "qwen2-vl-image", dict(use_dora=True, target_modules=r".*(patch_embed\.proj|visual.*blocks\.0.*qkv|language_model.*layers\.0.*q_proj)")),
    # Stacks of experts, as parameters of their modules; routers are parameters too.
    ("experts", "qwen3-moe", dict(target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"], rank_pattern={"experts.down_proj": 3}, use_rslora=True)),
    ("experts-more", "qwen3-moe", dict(r=1, target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"])),
    ("experts-down", "qwen3-vl-moe-image", dict(target_modules=[], target_parameters=["experts.down_proj"])),
    ("experts-gate-up", "qwen3-5-moe-image", dict(target_modules=["out_proj"], target_parameters=["experts.gate_up_proj"])),
    *[(f"experts-{b}", b, dict(target_modules=r".*layers\.1\.self_attn\.o_proj", target_parameters=EXPERTS)) for b in ("deepseek-v2", "deepseek-v3", "qwen3-omni-image-audio")],
    ("experts-gemma4", "gemma4-moe-image", dict(target_modules=r".*language_model.*o_proj", target_parameters=EXPERTS)),
    ("experts-each", "qwen3-moe", dict(target_modules=["v_proj", "gate_proj", "up_proj", "down_proj"])),
]

# Several at once, in order, with weights.
TOGETHER = [
    ("two", "llama", [("patterns", 0.5), ("dora", 1), ("layers", -1.5)]),
    ("two-tables", "llama", [("table", 1), ("head", 0.25)]),
    ("pissa-weighted", "llama", [("pissa", 0.5)]),
    ("dora-weighted", "llama", [("dora", 0.5), ("dora-pissa", 1)]),
    ("two-experts", "qwen3-moe", [("experts", 1), ("experts-more", 0.5)]),
]


def main(only):
    listed, expected = [], {}
    if only:
        listed = [c for c in json.loads((HERE / "cases.json").read_text()) if c["name"] not in only]
        expected = {k: v for k, v in tensors(HERE / "expected.safetensors").items() if k.split("/")[0] not in only}
    for seed, (name, base, settings) in enumerate(CASES):
        if only and name not in only:
            continue
        make(name, base, seed, **settings)
        listed.append({"name": name, "base": base, "adapters": [[name, 1.0]]})
    for name, base, adapters in TOGETHER:
        if not only or name in only:
            listed.append({"name": name, "base": base, "adapters": [[a, w] for a, w in adapters]})
    plain = {}
    for case in listed:
        name, base = case["name"], case["base"]
        if only and name not in only:
            continue
        found = results(base, opened(base, case["adapters"]))
        if base not in plain:
            plain[base] = results(base, base_model(base)) if base != "whisper" else None
        if plain[base] is not None:
            moved = (found["logits"] - plain[base]["logits"]).abs().max().item()
            assert moved > 1e-2, f"{name} changes nothing"
            print(f"{name}: logits move by {moved:.2f}", found.get("generated"), flush=True)
        expected |= {f"{name}/{k}": v.contiguous() for k, v in found.items()}
    save_file(expected, HERE / "expected.safetensors")
    lines = ",\n".join(json.dumps(c) for c in sorted(listed, key=lambda c: c["name"]))
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")


main(sys.argv[1:])
