#!/usr/bin/env python3
"""Writes sampling.json: the frames that transformers' video processors pick, for videos of many lengths and rates.

Run in this folder with transformers 5 and torch installed.
"""

import json
import pathlib
import warnings

from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor
from transformers.video_utils import VideoMetadata, default_sample_indices_fn

warnings.simplefilter("ignore")
VIDEOS = [(1, 25.0), (2, 25.0), (3, 30.0), (5, 1.0), (14, 25.0), (97, 24.0), (250, 25.0), (301, 12.5),
          (1207, 59.94), (571, 10.606060606060606)]
# Those of GLM change their rule with the length of a video.
LONG = [(60, 2.0), (901, 30.0), (7500, 25.0), (9001, 30.0), (7800, 24.0), (80_000, 30.0)]
qwen2, qwen3, smol = Qwen2VLVideoProcessor(), Qwen3VLVideoProcessor(), SmolVLMVideoProcessor()
glm4, glm46 = Glm4vVideoProcessor(), Glm46VVideoProcessor()
qwen2.fps = qwen2.num_frames = qwen3.fps = None


def attempt(sample):
    try:  # Rounding can add an index past the end; transformers' readers pass over it.
        return [int(index) for index in sample() if index < total] or None
    except (ValueError, ZeroDivisionError):
        return None


cases = []
for total, fps in VIDEOS + LONG:
    video = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps)
    base = dict(total=total, fps=fps)

    def add(rule, sample, **settings):
        cases.append(dict(rule=rule, **base, **settings, indices=attempt(sample)))

    for seconds, rate in ((300, 2), (300, 0.5), (12, 2), (1.5, 4.5)):
        glm4.max_duration = seconds
        add("ticks", lambda: glm4.sample_frames(video, fps=rate), rate=rate, seconds=seconds)
    for size in (1, 2, 3):
        glm46.temporal_patch_size = size
        add("groups", lambda: glm46.sample_frames(video), size=size)
    if (total, fps) in LONG:
        continue
    for count in (1, 2, 5, 31, 124):
        add("uniform", lambda: default_sample_indices_fn(video, num_frames=count), count=count)
        add("strided", lambda: qwen2.sample_frames(video, num_frames=count), count=count)
        add("spread", lambda: qwen3.sample_frames(video, num_frames=count), count=count)
    for rate in (0.5, 2, 4.5):
        add("uniform", lambda: default_sample_indices_fn(video, fps=rate), rate=rate, least=1, most=1 << 30)
        for least, most in ((4, 96), (16, 20)):
            bounds = dict(rate=rate, least=least, most=most)
            add("strided", lambda: qwen2.sample_frames(video, fps=rate, min_frames=least, max_frames=most), **bounds)
            qwen3.min_frames, qwen3.max_frames = least, most
            add("spread", lambda: qwen3.sample_frames(video, fps=rate), **bounds)
        for most, skip in ((4, 1.0), (64, 1.0), (64, 0.0), (8, 2.5)):
            add("centered", lambda: smol.sample_frames(video, num_frames=most, fps=rate, skip_secs=skip), rate=rate, most=most, skip=skip)

path = pathlib.Path(__file__).parent / "sampling.json"
path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n")
