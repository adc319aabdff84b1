"""Golden values of composites from PyTorch in float64: `python make.py > torch.json` (PyTorch 2.4 or later).

Each case is a text graph of one composite with its inputs and outputs in row-major order; infinities are strings. What PyTorch does not have (masks, soft caps, angles) is written here as plain loops.
"""

import json
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(20240607)
torch.set_default_dtype(torch.float64)
CASES = []


def random(*dims, scale=1.5):
    """Random values that are exact in f32 and short in decimal."""
    return (torch.randn(*dims) * scale * 64).round() / 64


def text_type(t):
    name = {torch.float64: "f32", torch.int32: "i32"}[t.dtype]
    return f"{name}[{','.join(map(str, t.shape))}]"


def numbers(t, digits):
    def written(v):
        if isinstance(v, int):
            return v
        return float(f"{v:.{digits}g}") if abs(v) < float("inf") else str(v)

    return [written(v) for v in t.detach().flatten().tolist()]


def case(name, op, inputs, outputs):
    graph = [f'graph "{name}"']
    graph += [f'%{i}:{text_type(t)} = input "{i}" data' for i, t in enumerate(inputs)]
    n = len(inputs)
    results = ", ".join(f"%{n + i}:{text_type(t)}" for i, t in enumerate(outputs))
    operands = ", ".join(f"%{i}" for i in range(n))
    graph.append(f"{results} = composite({op}) {operands}")
    graph += [f'output "{i}" %{n + i}' for i in range(len(outputs))]
    CASES.append(
        {
            "name": name,
            "graph": "\n".join(graph),
            "inputs": [numbers(t, 12) for t in inputs],
            "outputs": [numbers(t, 10) for t in outputs],
        }
    )


def backward(inputs, output, dy):
    return torch.autograd.grad(output, inputs, dy)


def integers(values):
    return torch.tensor(values, dtype=torch.int32)


ACTIVATIONS = {
    "gelu_erf": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
}


def activations():
    for name, f in ACTIVATIONS.items():
        x, up = random(3, 5, scale=3), random(3, 5)
        case(f"activate {name}", f"activate({name})", [x], [f(x)])
        case(f"gated {name}", f"gated_activate({name})", [x, up], [f(x) * up])


def projections():
    x, w, b = random(2, 3, 4), random(5, 4), random(5)
    case("linear", "linear(bias:false,act:None)", [x, w], [F.linear(x, w)])
    case("linear gelu", "linear(bias:true,act:Some(gelu_erf))", [x, w, b], [F.gelu(F.linear(x, w, b))])
    ids = integers([[4, 0], [2, 2]])
    case("embedding", "embedding(out:f32)", [w, ids], [F.embedding(ids.long(), w)])


def softmaxes():
    x = random(3, 7, scale=8)
    x[1, 2] = float("-inf")
    x[2] += 1000
    case("softmax", "softmax", [x], [F.softmax(x, -1)])
    case("log_softmax", "log_softmax", [x], [F.log_softmax(x, -1)])


def losses():
    logits = random(4, 6, scale=3).requires_grad_()
    labels = integers([5, -100, 0, 2])
    g = random(4)
    for smoothing in [0.0, 0.125]:
        loss = F.cross_entropy(
            logits, labels.long(), ignore_index=-100, label_smoothing=smoothing, reduction="none"
        )
        lse = torch.logsumexp(logits, -1)
        options = f"(ignore:-100,label_smoothing:{smoothing})"
        case(f"cross_entropy {smoothing}", f"cross_entropy{options}", [logits, labels], [loss, lse])
        (dx,) = backward([logits], loss, g)
        case(f"cross_entropy_grad {smoothing}", f"cross_entropy_grad{options}", [logits, labels, lse, g], [dx])


def norms():
    x, w, b, dy = random(2, 3, 8).requires_grad_(), random(8).requires_grad_(), random(8).requires_grad_(), random(2, 3, 8)
    eps = 2.0**-16
    y = F.rms_norm(x, [8], w, eps)
    case("rms_norm", f"rms_norm(eps:{eps},unit_offset:false)", [x, w], [y])
    case("rms_norm_grad", f"rms_norm_grad(eps:{eps},unit_offset:false)", [x, w, dy], backward([x, w], y, dy))
    y = F.rms_norm(x, [8], 1 + w, eps)
    case("rms_norm unit offset", f"rms_norm(eps:{eps},unit_offset:true)", [x, w], [y])
    case("rms_norm_grad unit offset", f"rms_norm_grad(eps:{eps},unit_offset:true)", [x, w, dy], backward([x, w], y, dy))
    y = F.layer_norm(x, [8], w, b, eps)
    case("layer_norm", f"layer_norm(eps:{eps})", [x, w, b], [y])
    case("layer_norm_grad", f"layer_norm_grad(eps:{eps})", [x, w, dy], backward([x, w, b], y, dy))


def rotary():
    x = random(2, 2, 3, 6)
    angles = random(2, 3, 2)
    cos, sin = angles.cos(), angles.sin()
    # Halves: x cos + rotate_half(x) sin, the angles repeated, as in the transformers library.
    whole = lambda a: torch.cat([a, a], -1)[:, None]
    turned, rest = x[..., :4], x[..., 4:]
    half = torch.cat([-turned[..., 2:], turned[..., :2]], -1)
    y = torch.cat([turned * whole(cos) + half * whole(sin), rest], -1)
    case("rope halves", "rope(interleaved:false)", [x, cos, sin], [y])
    # Interleaved: neighbours are complex numbers times cos + i sin.
    pairs = torch.view_as_complex(turned.reshape(2, 2, 3, 2, 2).contiguous())
    y = torch.view_as_real(pairs * torch.complex(cos, sin)[:, None]).reshape(2, 2, 3, 4)
    case("rope interleaved", "rope(interleaved:true)", [x, cos, sin], [torch.cat([y, rest], -1)])


SPEC = "(scale:{scale},causal:{causal},window:{window},soft_cap:{cap},segments:{segments},blocks:false,offset:{offset},kv_len:{kv_len},paged:false)"


def attention_case(name, h=4, hk=2, causal=False, window=None, cap=None, segments=False, offset=False, kv_len=False):
    b, t, s, d, e, scale = 2, 3, 5, 4, 3, 0.5
    q, k, v = random(b, h, t, d).requires_grad_(), random(b, hk, s, d).requires_grad_(), random(b, hk, s, e).requires_grad_()
    q_seg, k_seg = integers([[0, 0, 1], [1, 1, 9]]), integers([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    first, live = integers([2, 1]), integers([4, 5])
    allowed = torch.zeros(b, 1, t, s, dtype=torch.bool)
    for n in range(b):
        for i in range(t):
            for j in range(s):
                p = i + (int(first[n]) if offset else 0)
                ok = not kv_len or j < int(live[n])
                ok = ok and (not segments or int(q_seg[n, i]) == int(k_seg[n, j]))
                ok = ok and (not causal or j <= p)
                ok = ok and (window is None or p - j < window and (causal or j - p < window))
                allowed[n, 0, i, j] = ok
    keys, values = k.repeat_interleave(h // hk, 1), v.repeat_interleave(h // hk, 1)
    scores = q @ keys.transpose(2, 3) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    lse = torch.logsumexp(scores.masked_fill(~allowed, float("-inf")), -1)
    empty = ~allowed.any(-1, keepdim=True)
    if cap is None:
        # Rows without keys attend to everything here and are cleared, for PyTorch makes them NaN.
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=allowed | empty, scale=scale)
    else:
        out = F.softmax(scores.masked_fill(~(allowed | empty), float("-inf")), -1) @ values
    out = out.masked_fill(empty, 0.0)
    option = lambda v: "None" if v is None else f"Some({v})"
    flag = lambda v: str(v).lower()
    spec = SPEC.format(
        scale=scale, causal=flag(causal), window=option(window), cap=option(cap),
        segments=flag(segments), offset=flag(offset), kv_len=flag(kv_len),
    )
    inputs = [q, k, v]
    inputs += [q_seg, k_seg] if segments else []
    inputs += [first] if offset else []
    inputs += [live] if kv_len else []
    case(f"attention {name}", f"attention({spec})", inputs, [out, lse])
    if not segments:
        dout = random(b, h, t, e)
        gradients = backward([q, k, v], out, dout)
        saved = [out, lse, dout]
        case(f"attention_grad {name}", f"attention_grad({spec})", inputs + saved, gradients)


def attentions():
    attention_case("full", hk=4)
    attention_case("causal grouped", causal=True)
    attention_case("window", window=2)
    attention_case("capped with offset and extent", causal=True, cap=1.5, offset=True, kv_len=True)
    attention_case("causal window and offset", causal=True, window=2, offset=True)
    attention_case("segments with an empty row", segments=True)


def spatial():
    x, w, b = random(2, 3, 9), random(4, 3, 3), random(4)
    case("conv1d", "conv1d(stride:1,padding:1,dilation:1,bias:true)", [x, w, b], [F.conv1d(x, w, b, padding=1)])
    case(
        "conv1d strided",
        "conv1d(stride:2,padding:2,dilation:2,bias:false)",
        [x, w],
        [F.conv1d(x, w, stride=2, padding=2, dilation=2)],
    )
    image = random(1, 2, 4, 6)
    case("patchify", "patchify(patch:[2,3])", [image], [F.unfold(image, (2, 3), stride=(2, 3)).transpose(1, 2)])
    case("pool avg", "pool(kind:avg,window:[2,3],stride:[2,1])", [image], [F.avg_pool2d(image, (2, 3), (2, 1))])
    case("pool max", "pool(kind:max,window:[3,2],stride:[1,2])", [image], [F.max_pool2d(image, (3, 2), (1, 2))])
    case("pool one dimension", "pool(kind:avg,window:[2],stride:[2])", [x], [F.avg_pool1d(x, 2, 2)])
    case("cum_sum", "cum_sum(axis:1)", [image], [torch.cumsum(image, 1)])
    case("cum_sum last", "cum_sum(axis:2)", [x], [torch.cumsum(x, 2)])
    for size in [(7, 9), (3, 4), (1, 1)]:
        shape = f"size:({size[0]},{size[1]})"
        case(f"upsample nearest {size}", f"upsample({shape},kind:nearest)", [image], [F.interpolate(image, size)])
        for corners in [False, True]:
            y = F.interpolate(image, size, mode="bilinear", align_corners=corners)
            kind = f"bilinear(align_corners:{str(corners).lower()})"
            case(f"upsample {kind} {size}", f"upsample({shape},kind:{kind})", [image], [y])


def optimizer():
    # Betas and the other settings are values of f32, so that both sides have the same ones.
    single = lambda v: float(torch.tensor(v).float())
    b1, b2, eps, decay, rate = single(0.9), single(0.999), single(1e-8), single(0.1), single(0.01)
    p = random(6).requires_grad_()
    step = torch.optim.AdamW([p], lr=rate, betas=(b1, b2), eps=eps, weight_decay=decay)
    p.grad = random(6)
    m, v = random(6, scale=0.1), random(6, scale=0.1) ** 2 + 0.0625
    for done in [0, 2, 999]:
        step.state[p] = {"step": torch.tensor(float(done)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
        before = p.detach().clone().float().double()
        p.data.copy_(before)
        step.step()
        state = step.state[p]
        scalars = [torch.tensor(rate), torch.tensor(done + 1.0)]
        case(
            f"adam_w step {done + 1}",
            f"adam_w(beta1:0.9,beta2:0.999,eps:1e-8,weight_decay:0.1)",
            [before, p.grad, m, v] + scalars,
            [p, state["exp_avg"], state["exp_avg_sq"]],
        )


for group in [activations, projections, softmaxes, losses, norms, rotary, attentions, spatial, optimizer]:
    group()
version = torch.__version__.split("+")[0]
print(f'{{"made_with": "PyTorch {version}, float64", "cases": [')
print(",\n".join(json.dumps(c) for c in CASES))
print("]}")
print(f"{len(CASES)} cases", file=sys.stderr)
