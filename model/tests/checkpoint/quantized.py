"""Makes quantized/ and quantized.json beside it: a linear layer of 16 outputs and 256 inputs as each method of quantization
stores it, and the weight it was packed from. Integers are packed here as the methods' own packers do: AutoGPTQ's
`QuantLinear.pack`, AutoAWQ's `WQLinear_GEMM.from_linear` (its order of eight) and compressed-tensors' `pack_to_int32`;
floats of eight bits are ml_dtypes'. A weight is recorded as make.py records a tensor.

Made with numpy 2.4.6, safetensors 0.8.0 and ml_dtypes 0.6.0: python model/tests/checkpoint/quantized.py
"""
import json, os
import ml_dtypes, numpy as np
from safetensors.numpy import save_file, save

HERE = os.path.dirname(os.path.abspath(__file__))
OUT, IN, GROUP = 16, 256, 64
rng = np.random.default_rng(5)
expected = {}


def digest(array):
    bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return str(int((bits * (2 * np.arange(bits.size, dtype=np.uint64) + 1)).sum(dtype=np.uint64)))


def words(nibbles, axis):
    """Eight numbers of four bits to a word, the first lowest, along an axis."""
    moved = np.moveaxis(nibbles.astype(np.uint32), axis, -1)
    packed = np.zeros((*moved.shape[:-1], moved.shape[-1] // 8), np.uint32)
    for i in range(8):
        packed |= moved[..., i::8] << np.uint32(4 * i)
    return np.ascontiguousarray(np.moveaxis(packed, -1, axis)).view(np.int32)


def record(name, tensors, config, weight, file=None):
    os.makedirs(os.path.join(HERE, "quantized"), exist_ok=True)
    path = os.path.join(HERE, "quantized", name + ".safetensors")
    if file is None:
        save_file({f"layer.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    else:
        with open(path, "wb") as f:
            f.write(file)
    expected[name] = {"config": config, "dims": list(weight.shape), "digest": digest(weight)}


q = rng.integers(0, 16, (IN, OUT))
zeros = rng.integers(1, 16, (IN // GROUP, OUT))
scales = rng.uniform(1e-3, 1e-2, (IN // GROUP, OUT)).astype(np.float16)
for name, of, method in [
    ("gptq", np.arange(IN) // GROUP, {"quant_method": "gptq", "bits": 4, "group_size": GROUP}),
    ("gptq_act_order", rng.permutation(np.arange(IN) // GROUP), {"quant_method": "gptq", "bits": 4, "desc_act": True}),
    ("gptq_v2", np.arange(IN) // GROUP, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}),
]:
    less = 0 if name == "gptq_v2" else 1
    tensors = {"qweight": words(q, 0), "qzeros": words(zeros - less, 1), "scales": scales,
               "g_idx": of.astype(np.int32), "bias": np.ones(OUT, np.float16)}
    weight = (q - zeros[of]).astype(np.float32) * scales[of].astype(np.float32)
    record(name, tensors, method, weight.T)

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
reorder = lambda x: x.reshape(x.shape[0], -1, 8)[..., ORDER].reshape(x.shape)
of = np.arange(IN) // GROUP
weight = (q - zeros[of]).astype(np.float32) * scales[of].astype(np.float32)
record("awq", {"qweight": words(reorder(q), 1), "qzeros": words(reorder(zeros), 1), "scales": scales},
       {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}, weight.T)

rows, z = q.T - 8, zeros.T - 8
wide = scales.T.astype(np.float32)
shape = np.array([OUT, IN], np.int64)
packed = {"weight_packed": words(rows + 8, 1), "weight_scale": scales.T, "weight_shape": shape}
method = {"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": GROUP, "strategy": "group"}}}}
record("pack_quantized", packed, method, rows.astype(np.float32) * wide[:, of])
record("pack_quantized_zeros", dict(packed, weight_zero_point=words(z + 8, 0)), method,
       (rows - z[:, of]).astype(np.float32) * wide[:, of])

bytes_ = rng.integers(-128, 128, (OUT, IN)).astype(np.int8)
row_scale = rng.uniform(1e-3, 1e-2, (OUT, 1)).astype(np.float32)
record("int_quantized", {"weight": bytes_, "weight_scale": row_scale}, {"quant_method": "compressed-tensors", "format": "int-quantized"},
       bytes_.astype(np.float32) * row_scale)

# Blocks of 6 x 100 do not divide 16 x 256.
raw = rng.integers(0, 256, (OUT, IN)).astype(np.uint8)
raw[(raw & 0x7F) == 0x7F] = 0
f8 = raw.view(ml_dtypes.float8_e4m3fn)
block = rng.uniform(1e-3, 1e-2, (3, 3)).astype(np.float32)
spread = np.repeat(np.repeat(block, 6, 0)[:OUT], 100, 1)[:, :IN]
data = f8.tobytes() + block.tobytes()
head = json.dumps({"layer.weight": {"dtype": "F8_E4M3", "shape": [OUT, IN], "data_offsets": [0, OUT * IN]},
                   "layer.weight_scale_inv": {"dtype": "F32", "shape": [3, 3], "data_offsets": [OUT * IN, len(data)]}}).encode()
head += b" " * (-len(head) % 8)
record("fp8", None, {"quant_method": "fp8", "weight_block_size": [6, 100]}, f8.astype(np.float32) * spread,
       len(head).to_bytes(8, "little") + head + data)

with open(os.path.join(HERE, "quantized.json"), "w") as f:
    json.dump(expected, f, indent=1)
    f.write("\n")
