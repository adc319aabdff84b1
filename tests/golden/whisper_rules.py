"""What transformers makes of logits and tokens on Whisper's way from one to the other.

usage: python tests/golden/whisper_rules.py > infer/src/transcribe/golden.json
Made with transformers 5.23.0 and torch 2.15.0.
"""
import json
import random

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

VOCAB, END, NO_TIMESTAMPS, BEGIN = 40, 15, 20, 21
SUPPRESS, SUPPRESS_AT_BEGIN, MAX_INITIAL = [2, 16, 17, 18], [5, END], 6
torch.manual_seed(7)
random.seed(7)

config = GenerationConfig(eos_token_id=END, bos_token_id=END)
config.no_timestamps_token_id = NO_TIMESTAMPS
config.max_initial_timestamp_index = MAX_INITIAL
processors = [
    SuppressTokensAtBeginLogitsProcessor(SUPPRESS_AT_BEGIN, begin_index=1),
    SuppressTokensLogitsProcessor(SUPPRESS),
    WhisperTimeStampLogitsProcessor(config, begin_index=1),
]

rules = []
SAID = [[], [21], [21, 3], [21, 3, 4], [21, 3, 25], [21, 3, 25, 25], [21, 3, 25, 25, 7], [23, 3, 9, 30], [22, 1, 39]]
for said in SAID:
    for loud in (0.0, 3.0, -8.0):
        logits = (torch.randn(1, VOCAB) * 2).round(decimals=3)
        logits[:, BEGIN:] += loud
        scores = logits
        for p in processors:
            scores = p(torch.tensor([[16, *said]]), scores)
        kept = torch.isfinite(scores[0]).nonzero().flatten().tolist()
        rules.append(dict(said=said, logits=[round(x, 3) for x in logits[0].tolist()], kept=kept))

segments = []
SEQUENCES = [
    [21, 3, 4, 30],
    [21, 3, 25, 25, 7, 8, 33],
    [21, 3, 25, 25, 7, 8, 33, 33],
    [21, 3, 25, 25, 7, 8],
    [21, 3, 4],
    [3, 4],
    [22, 3, 25, 27, 7, 30, 30],
    [21, 5, 22, 22, 6, 23, 24, 7, 25],
    [21, 3, 25, 26],
]
for tokens in SEQUENCES:
    for frames in (200, 3000):
        found, advance = WhisperGenerationMixin._retrieve_segment(
            seek_sequence=torch.tensor(tokens), seek_outputs=[None], time_offset=torch.tensor([0.0], dtype=torch.float64),
            timestamp_begin=BEGIN, seek_num_frames=torch.tensor([frames]), time_precision=0.02,
            time_precision_features=0.01, input_stride=2, prev_idx=0, idx=0, return_token_timestamps=False,
            decoder_input_ids=torch.tensor([[16]]))
        spans = [dict(start=float(s["start"]), end=float(s["end"]), tokens=[t for t in s["tokens"].tolist() if t < END])
                 for s in found]
        segments.append(dict(tokens=tokens, frames=frames, spans=spans, advance=int(advance)))

print(json.dumps(dict(
    vocab=VOCAB, end=END, no_timestamps=NO_TIMESTAMPS, suppress=SUPPRESS, suppress_at_begin=SUPPRESS_AT_BEGIN,
    max_initial=MAX_INITIAL, rules=rules, segments=segments)))
