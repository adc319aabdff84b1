"""Losses and gradients of PyTorch, that tests/it/training holds training to.

    python tests/training/make_golden.py

writes golden.json and adapter/ beside this file. The weights of the 6-layer decoder are made by one formula on both
sides. Needs torch, transformers and peft.
"""
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
PARITY = HERE.parent / "parity"
STEPS = 50
torch.manual_seed(0)


def tokens(seed, length, vocab, low=16):
    """Ids that tests/it/training makes too."""
    return [low + (seed * 7919 + i * 104729 + i * i * 31) % (vocab - low) for i in range(length)]


def formula(shape, seed, scale):
    """Weights that tests/it/training makes too: a hash of the place, even in [-scale, scale)."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed << 32)
    x = (i * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return torch.tensor(((x.astype(np.float64) / 2**23 - 1.0) * scale).astype(np.float32).reshape(shape))


def groups(model, decay):
    named = list(model.named_parameters())
    named = [(n, p) for n, p in named if p.requires_grad]
    return [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]


def cross_entropy(model, inputs, labels):
    """The sum over the answer tokens of one sample, and how many there are."""
    logits = model(**inputs).logits[0].float()
    wanted = labels[1:]
    loss = torch.nn.functional.cross_entropy(logits[:-1], wanted, ignore_index=-1, reduction="sum")
    return loss, int((wanted >= 0).sum())


def train(model, batches, rate, decay, clip, sgd=None):
    """One sample at a time, so that no packing or padding of the other side's can hide here."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if sgd is None:
        optimizer = torch.optim.AdamW(groups(model, decay), lr=rate, betas=(0.9, 0.95), eps=1e-8)
    else:
        optimizer = torch.optim.SGD(groups(model, decay), lr=rate, momentum=sgd)
    losses = []
    for batch in batches:
        count = sum(int((labels[1:] >= 0).sum()) for _, labels in batch)
        optimizer.zero_grad()
        total = 0.0
        for inputs, labels in batch:
            loss, _ = cross_entropy(model, inputs, labels)
            (loss / count).backward()
            total += loss.item() / count
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip)
        optimizer.step()
        losses.append(total)
    return losses


def text_sample(seed, vocab, low=16):
    length = 9 + seed * 5 % 17
    ids = tokens(seed, length, vocab, low)
    labels = torch.tensor([i if k >= length // 3 else -1 for k, i in enumerate(ids)])
    return {"input_ids": torch.tensor([ids])}, labels


def load(name, cls):
    return cls.from_pretrained(PARITY / name / "model", dtype=torch.float32, attn_implementation="eager")


def llama(rate=2e-3, sgd=None):
    return texts("llama", 401, rate, sgd)


def texts(name, vocab, rate, sgd=None, steps=STEPS):
    from transformers import AutoModelForCausalLM
    model = load(name, AutoModelForCausalLM)
    batches = [[text_sample(4 * step + k, vocab) for k in range(4)] for step in range(steps)]
    return train(model, batches, rate, 0.1, 1.0, sgd)


def mixture(weight=0.1):
    """Losses of the answers, and those that balance the experts, which the steps take with a weight."""
    from transformers import AutoModelForCausalLM
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func
    model = load("qwen3-moe", AutoModelForCausalLM).train()
    experts, chosen = model.config.num_experts, model.config.num_experts_per_tok
    optimizer = torch.optim.AdamW(groups(model, 0.1), lr=2e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, balances = [], []
    for step in range(STEPS):
        batch = [text_sample(4 * step + k, 312) for k in range(4)]
        count = sum(int((labels[1:] >= 0).sum()) for _, labels in batch)
        outputs = [(model(**inputs, output_router_logits=True), labels[1:]) for inputs, labels in batch]
        loss = sum(
            torch.nn.functional.cross_entropy(o.logits[0, :-1], wanted, ignore_index=-1, reduction="sum")
            for o, wanted in outputs
        ) / count
        # One batch to the other side, so that its loads are those of all samples.
        logits = tuple(torch.cat(layer) for layer in zip(*[o.router_logits for o, _ in outputs]))
        balance = load_balancing_loss_func(logits, experts, chosen)
        optimizer.zero_grad()
        (loss + weight * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        balances.append(balance.item())
    return {"losses": losses, "balances": balances}


def long_sample(seed, vocab, low=16):
    """Of more than two chunks of the delta rule, of which all but the first is learnt."""
    ids = torch.tensor(tokens(seed, 150, vocab, low))
    return {"input_ids": ids[None]}, torch.where(torch.arange(150) >= 1, ids, -1)


def delta():
    """A delta-rule model: long and short texts, and the gradients of an adapter on its projections."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    model = load("qwen3-5-text", AutoModelForCausalLM)
    batches = [[long_sample(step % 5, 312), text_sample(step, 312)] for step in range(STEPS)]
    losses = train(model, batches, 5e-4, 0.1, 1.0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["in_proj_qkv", "in_proj_a", "out_proj", "q_proj"])
    model = get_peft_model(load("qwen3-5-text", AutoModelForCausalLM), config)
    save_adapter(model, HERE / "adapter-delta", "qwen3-5-text")
    inputs, labels = long_sample(3, 312)
    return {"losses": losses, "lora": gradients_of(model, inputs, labels)}


def sgd():
    """Three steps of torch.optim.SGD in float64, each with gradients of its own."""
    out = {}
    for case, momentum, decay in [("plain", 0.0, 0.0), ("momentum", 0.95, 0.1)]:
        p = torch.nn.Parameter(formula((20,), 1, 1.0).double())
        optimizer = torch.optim.SGD([p], lr=0.02, momentum=momentum, weight_decay=decay)
        out[case] = []
        for step in range(3):
            p.grad = formula((20,), step + 2, 1.0).double()
            optimizer.step()
            out[case].append(p.detach().tolist())
    return out


def media_sample(name):
    """A parity case with media, of which the last eight tokens are learnt."""
    inputs = load_file(PARITY / name / "inputs.safetensors")
    ids = inputs["input_ids"][0]
    labels = torch.tensor([int(i) if k >= len(ids) - 8 else -1 for k, i in enumerate(ids)])
    return {k: v.long() if not v.is_floating_point() else v for k, v in inputs.items()}, labels


def media(name, vocab_low):
    from transformers import AutoModelForImageTextToText
    model = load(name, AutoModelForImageTextToText)
    batches = [[media_sample(name), text_sample(step, 300, vocab_low)] for step in range(STEPS)]
    # Towers have parameters that nothing reads; they have no gradient and torch leaves them alone.
    return train(model, batches, 1e-3, 0.0, 1.0)


def lora():
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    base = load("llama", AutoModelForCausalLM)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], modules_to_save=["norm"])
    model = get_peft_model(base, config)
    save_adapter(model, HERE / "adapter", "llama")
    return gradients_of(model, *text_sample(3, 401))


def gemma4_lora():
    """Adapters on attention and on what reads the vectors that every layer of Gemma 4 has of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText
    base = load("gemma4-image", AutoModelForImageTextToText)
    layers = "q_proj|v_proj|per_layer_input_gate|per_layer_projection|per_layer_model_projection"
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=rf".*language_model.*({layers})"))
    save_adapter(model, HERE / "adapter-gemma4", "gemma4-image")
    return gradients_of(model, *media_sample("gemma4-image"))


def experts_lora():
    """Adapters on a mixture's experts, its router and attention. Gradients of experts are told as graphs have them: B of PEFT
    [n, rank experts], of which experts count fastest, as [experts, n, rank]."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    base = load("qwen3-moe", AutoModelForCausalLM)
    count = base.config.num_experts
    parameters = ["experts.gate_up_proj", "experts.down_proj", "mlp.gate.weight"]
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], target_parameters=parameters))
    save_adapter(model, HERE / "adapter-experts", "qwen3-moe")
    found = gradients_of(model, *text_sample(3, 312), whole=True)
    gradients = {}
    for name, gradient in found["gradients"].items():
        if ".experts." in name and "lora_B" in name:
            gradient = gradient.reshape(len(gradient), -1, count).permute(2, 0, 1)
        inner, outer = ("experts.base_layer.lora", "experts.gate_up_proj.lora"), ("experts.lora", "experts.down_proj.lora")
        gradients[name.replace(*inner).replace(*outer)] = told(gradient)
    return {"loss": found["loss"], "gradients": gradients}


def media_gradients(name):
    """The gradients of all parameters of a model that hears or sees, at a parity case. Parts of names that differ between
    memory and files are left out."""
    import transformers
    kind = transformers.AutoConfig.from_pretrained(PARITY / name / "model").architectures[0]
    # What understands of a model that speaks.
    kind = kind.replace("OmniFor", "OmniThinkerFor")
    model = load(name, getattr(transformers, kind))
    model = getattr(model, "thinker", model).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    found = gradients_of(model, *media_sample(name), whole=True)
    plain = lambda n: ".".join(p for p in n.split(".") if p not in ("model", "language_model", "thinker"))
    return {"loss": found["loss"], "gradients": {plain(n): told(g, 3) for n, g in found["gradients"].items()}}


def save_adapter(model, folder, base):
    """Gives an adapter the numbers of the formula, so that B is not zero, and saves it."""
    with torch.no_grad():
        for seed, (name, p) in enumerate(sorted(model.named_parameters())):
            if "lora_" in name:
                p.copy_(formula(p.shape, seed + 1, 0.2))
    model.save_pretrained(folder)
    portable(folder, base)


def portable(folder, base):
    """PEFT keeps the folder that the model came from, which is another one on every machine."""
    settings = folder / "adapter_config.json"
    config = json.loads(settings.read_text())
    config["base_model_name_or_path"] = f"tests/parity/{base}/model"
    settings.write_text(json.dumps(config, indent=2))
    readme = folder / "README.md"
    if readme.exists():
        readme.unlink()


def told(gradient, first=8):
    return {"norm": gradient.norm().item(), "first": gradient.flatten()[:first].tolist()}


def gradients_of(model, inputs, labels, whole=False):
    """The loss of a sample, and the gradient of every parameter that is trained."""
    loss, count = cross_entropy(model, inputs, labels)
    (loss / count).backward()
    gradients = {}
    for name, p in model.named_parameters():
        if p.grad is not None:
            name = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            gradients[name] = p.grad if whole else told(p.grad)
    return {"loss": loss.item() / count, "gradients": gradients}


# What PEFT writes when modules, biases or a table are trained beside A and B.
WHOLE = {
    "module": ("smolvlm-image", dict(target_modules=["v_proj"], modules_to_save=["model.vision_model.post_layernorm"])),
    "table": ("llama", dict(target_modules=["v_proj"], modules_to_save=["model.embed_tokens", "model.norm"], ensure_weight_tying=True)),
    "biases": ("qwen2", dict(target_modules=["k_proj"], bias="all")),
    "own-biases": ("qwen2", dict(target_modules=["k_proj"], bias="lora_only")),
    # Over checkpoints with the names that transformers 4 gave them.
    "language-model": ("gemma3", dict(target_modules=r".*language_model.*v_proj", modules_to_save=["model.language_model.embed_tokens", "model.language_model.norm"], ensure_weight_tying=True)),
    "beside-visual": ("qwen2-vl-image", dict(target_modules=r".*language_model.*k_proj", modules_to_save=["model.language_model.norm"])),
    "own-head": ("qwen2-audio", dict(target_modules=r".*language_model.*k_proj", modules_to_save=["lm_head"])),
}


def whole():
    """The tensors of such adapters with their shapes, and what adapter_config.json says of them."""
    import tempfile
    import transformers
    from peft import LoraConfig, get_peft_model
    found = {}
    for name, (base, settings) in WHOLE.items():
        kind = transformers.AutoConfig.from_pretrained(PARITY / base / "model").architectures[0]
        model = get_peft_model(load(base, getattr(transformers, kind)), LoraConfig(r=2, **settings))
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tensors = load_file(pathlib.Path(folder) / "adapter_model.safetensors")
            config = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
        kept = {key: config[key] for key in ("bias", "ensure_weight_tying", "modules_to_save")}
        found[name] = {"base": base, "tensors": {n: list(t.shape) for n, t in sorted(tensors.items())}, "config": kept}
    return found


def muon():
    """One step of torch.optim.Muon in float64, whose own iteration rounds to bfloat16."""
    p, g = formula((6, 10), 1, 1.0), formula((6, 10), 2, 1.0)
    coefficients, momentum, rate, decay = (3.4445, -4.7750, 2.0315), 0.95, 0.02, 0.1
    p, g = p.double(), g.double()
    buffer = torch.zeros_like(p)
    out = []
    for _ in range(2):
        buffer.lerp_(g, 1 - momentum)
        x = g.lerp(buffer, momentum)
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(5):
            a = x @ x.T
            b = torch.addmm(a, a, a, beta=coefficients[1], alpha=coefficients[2])
            x = torch.addmm(x, b, x, beta=coefficients[0])
        p = p * (1 - rate * decay) - rate * 0.2 * max(p.shape) ** 0.5 * x
        out.append(p.flatten().tolist())
    return out


def decoder(rows=2, length=128):
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(
        vocab_size=1024, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=length, rms_norm_eps=1e-6, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for seed, (name, p) in enumerate(sorted(model.named_parameters())):
            p.copy_(torch.ones_like(p) if p.ndim == 1 else formula(p.shape, seed + 1, 0.035))

    def sample(seed):
        ids = torch.tensor(tokens(seed, length, 1024))
        return {"input_ids": ids[None]}, ids

    # Five batches over and over, so that something is learnt.
    batches = [[sample(step % 5 * rows + r) for r in range(rows)] for step in range(STEPS)]
    return train(model, batches, 3e-4, 0.1, 1.0)


if __name__ == "__main__":
    golden = {
        "llama": llama(),
        "smolvlm-image": media("smolvlm-image", 100),
        "qwen2-vl-image": media("qwen2-vl-image", 100),
        "gemma4-image": media("gemma4-image", 100),
        "lora": lora(),
        "gemma4-lora": gemma4_lora(),
        "delta": delta(),
        "whole": whole(),
        "muon": muon(),
        "sgd": sgd(),
        "llama-sgd": llama(0.1, 0.9),
        "decoder": decoder(),
        "mixture": mixture(),
        "lfm2-text": texts("lfm2-text", 300, 1e-3, steps=30),
        "experts-lora": experts_lora(),
        **{name: media_gradients(name) for name in ("qwen2-5-omni-image-audio", "qwen3-omni-image-audio", "voxtral")},
        "versions": {"torch": torch.__version__, "transformers": __import__("transformers").__version__},
    }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
