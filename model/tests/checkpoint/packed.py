"""Makes packed.gguf and packed.json beside it: random blocks of every block format that is held in another dtype, and
what gguf-py decodes of them; and the same tensors in the pieces of split/. A tensor is recorded as make.py records it.

Made with gguf 0.19.0 and numpy 2.4.6: python model/tests/checkpoint/packed.py
"""
import json, os
import gguf, numpy as np
from gguf import GGMLQuantizationType as T

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(11)
# Where f16 scales lie in a block; the other bytes are any.
SCALES = {T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q5_K: [0, 2], T.IQ4_NL: [0], T.IQ4_XS: [0],
          T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [], T.NVFP4: []}


def digest(array):
    bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return str(int((bits * (2 * np.arange(bits.size, dtype=np.uint64) + 1)).sum(dtype=np.uint64)))


expected = {}
os.makedirs(os.path.join(HERE, "split"), exist_ok=True)
tensors = []
for kind, places in SCALES.items():
    length, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (3, 512 // length, size), np.uint8)
    for at in places:
        scale = (rng.normal(0, 0.02, raw.shape[:2])).astype(np.float16)
        raw[..., at:at + 2] = scale.view(np.uint8).reshape(*raw.shape[:2], 2)
    if kind == T.MXFP4:
        raw[..., 0] = rng.integers(0, 250, raw.shape[:2])
    if kind == T.NVFP4:
        raw[..., :4] &= 0x7F
    raw = raw.reshape(3, -1)
    name = f"{kind.name}.weight"
    tensors.append((name, raw, kind))
    values = gguf.quants.dequantize(raw, kind).astype(np.float32)
    expected[name] = {"dims": list(values.shape), "digest": digest(values)}


def write(path, some, **split):
    writer = gguf.GGUFWriter(os.path.join(HERE, path), "blocks")
    for key, value in split.items():
        key = "split." + key.replace("_", ".")
        writer.add_int32(key, value) if key == gguf.Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT else writer.add_uint16(key, value)
    for name, raw, kind in some:
        writer.add_tensor(name, raw, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()


write("packed.gguf", tensors)
for number, some in enumerate([tensors[:4], tensors[4:9], tensors[9:]]):
    write(f"split/packed-{number + 1:05}-of-00003.gguf", some, no=number, count=3, tensors_count=len(tensors))
with open(os.path.join(HERE, "packed.json"), "w") as f:
    json.dump(expected, f, indent=1)
    f.write("\n")
