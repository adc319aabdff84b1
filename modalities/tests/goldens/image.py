"""What PIL, torchvision and transformers make of small pictures: run to renew ../fixtures/image.safetensors.

Needs pillow 13, torchvision 0.29, transformers 5.23 (its PIL backend of image processors), numpy and safetensors.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as tvF
from PIL import Image
from safetensors.numpy import save_file
from transformers.image_transforms import center_crop, normalize, rescale

out = {}
rng = np.random.default_rng(7)
y, x = np.mgrid[0:37, 0:53]
out["source noise"] = rng.integers(0, 256, (31, 45, 3), dtype=np.uint8)
# Hard edges make the wide filters overshoot both ends of the range.
out["source edges"] = np.stack([(x // 9 + y // 7) % 2 * 255, (x * 5) % 256, (y * 7) % 256], -1).astype(np.uint8)
out["source dot"] = np.array([[[200, 100, 3]]], dtype=np.uint8)

filters = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
sizes = [(45, 31), (20, 14), (7, 50), (45, 9), (11, 31), (60, 41), (1, 1), (3, 2), (128, 3)]
for source in ["noise", "edges", "dot"]:
    image = Image.fromarray(out[f"source {source}"])
    for name in filters:
        for width, height in sizes if source != "dot" else [(5, 3)]:
            resized = image.resize((width, height), Image.Resampling[name.upper()])
            out[f"resize {source} {name} {width} {height}"] = np.array(resized)

for source in ["noise", "edges"]:
    planes = torch.from_numpy(out[f"source {source}"]).permute(2, 0, 1).contiguous()
    for name in ["lanczos", "bilinear", "bicubic"]:
        # A single pixel fails inside torch 2.15.
        for width, height in [size for size in sizes if size != (1, 1)]:
            resized = tvF.resize(planes, [height, width], tvF.InterpolationMode(name), antialias=True)
            out[f"tensor {source} {name} {width} {height}"] = resized.permute(1, 2, 0).numpy()

# Windows of more pixels than are summed side by side; the source is a formula that the test knows too.
strip = (np.arange(3 * 20000, dtype=np.int64) ** 2 % 251).astype(np.uint8).reshape(1, 20000, 3)
for name in ["bicubic", "lanczos"]:
    out[f"strip {name} 3 1"] = np.array(Image.fromarray(strip).resize((3, 1), Image.Resampling[name.upper()]))

noise = out["source noise"]
for width, height in [(45, 31), (10, 10), (11, 12), (60, 40), (61, 41), (10, 40), (60, 8)]:
    out[f"center_crop noise {width} {height}"] = np.ascontiguousarray(center_crop(noise, (height, width)))

planes = noise.transpose(2, 0, 1)
clip = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
out["normalize noise clip"] = normalize(rescale(planes, 1 / 255), *clip)
out["normalize noise half"] = normalize(rescale(planes, 0.00392156862745098), 0.5, 0.5)
out["normalize noise bytes"] = normalize(planes, [120.5, 110.0, 100.25], [60.0, 61.5, 57.0])
out["normalize noise rescale"] = rescale(planes, 1 / 255)

save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, Path(__file__).parent / "../fixtures/image.safetensors")
