"""When transformers says that each token and each word was said: tests/speech/words.json from the clips of tests/speech with
Whisper tiny.en, and infer/src/transcribe/words.json from small matrices of attention.

usage: python tests/golden/whisper_words.py MODEL
  MODEL: as for whisper_speech.py
Made with transformers 5.24.0 and torch 2.15.0.
"""
import json
import pathlib
import sys
import types
import warnings

import av
import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.utils import ModelOutput
from transformers.models.whisper import tokenization_whisper as words_of

warnings.filterwarnings("ignore")
model_folder, root = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent.parent.parent
here = root / "tests" / "speech"
torch.set_num_threads(2)

# Small matrices: the whole of `_extract_token_timestamps`, without a prompt.
rng = np.random.default_rng(5)
cases = []
for heads, rows, frames, width in [(1, 1, 9, 7), (2, 4, 30, 7), (3, 7, 25, 5), (2, 9, 12, 3), (1, 5, 3, 7), (4, 6, 40, 7)]:
    logits = rng.normal(size=(heads, rows, frames)) + 4 * (
        np.abs(np.arange(frames)[None, None] * rows / frames - np.arange(rows)[None, :, None]) < 1)
    weights = torch.tensor(np.round(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), 4), dtype=torch.float32)
    config = types.SimpleNamespace(decoder_layers=1, median_filter_width=width)
    outputs = ModelOutput(cross_attentions=[(weights[None],)], sequences=torch.zeros(1, rows + 1))
    found = WhisperForConditionalGeneration._extract_token_timestamps(
        types.SimpleNamespace(config=config), outputs, [(0, h) for h in range(heads)], num_input_ids=0)
    ends = [round(float(t) / 0.02) for t in found[0][:rows]]
    cases.append(dict(rows=rows, frames=frames, width=width, ends=ends,
                      heads=[[round(float(v), 4) for v in head.flatten()] for head in weights]))
(root / "infer/src/transcribe/words.json").write_text(json.dumps(cases) + "\n")

model = WhisperForConditionalGeneration.from_pretrained(model_folder, attn_implementation="eager").eval()
own = json.loads((model_folder / "ct2.json").read_text())
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model_folder / "tokenizer.json"))
tokenizer.language, tokenizer.eos_token = "english", "<|endoftext|>"
plain = tokenizer.decode
tokenizer.decode = lambda tokens, decode_with_timestamps=False: plain(tokens)
extract = WhisperFeatureExtractor()
settings = GenerationConfig(
    decoder_start_token_id=50257, eos_token_id=50256, bos_token_id=50256, pad_token_id=50256, max_length=448,
    suppress_tokens=own["suppress_ids"], begin_suppress_tokens=own["suppress_ids_begin"])
settings.no_timestamps_token_id, settings.is_multilingual = 50362, False
settings.max_initial_timestamp_index, settings.return_timestamps = 50, True
settings.alignment_heads = own["alignment_heads"]
model.generation_config = settings


def samples(path):
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
    with av.open(str(path)) as container:
        parts = [r.to_ndarray() for frame in container.decode(audio=0) for r in resampler.resample(frame)]
    return np.concatenate(parts, 1)[0].astype(np.float32)


clips = []
for line in (here / "references.tsv").read_text().splitlines():
    file = line.split("\t")[0]
    sound = samples(here / file)
    features = extract(sound, sampling_rate=16000, return_tensors="pt").input_features
    frames = -(-len(sound) // 160)
    with torch.no_grad():
        out = model.generate(features, return_timestamps=True, return_token_timestamps=True,
                             return_dict_in_generate=True, num_frames=torch.tensor([frames]), temperature=0.0,
                             force_unique_generate_call=True)
    tokens, times = out["sequences"][0].tolist(), out["token_timestamps"][0].tolist()
    start = tokens.index(50257) + 1 if 50257 in tokens else 0
    tokens, times = tokens[start:], times[start:]
    said = [i for i, t in enumerate(tokens) if t < 50256]
    words, _, places = words_of._combine_tokens_into_words(tokenizer, [tokens[i] for i in said], "english")
    at = lambda i: times[i] if i >= 0 else 0.0
    clips.append(dict(
        file=file, frames=frames, tokens=[t for t in tokens if t != 50256],
        ends=[round(t, 2) for t, k in zip(times, tokens) if k != 50256],
        words=[[w.strip(), round(at(said[p[0]] - 1), 2), round(at(said[p[-1]]), 2)] for w, p in zip(words, places)]))
    print(file, clips[-1]["words"], file=sys.stderr)
(here / "words.json").write_text(json.dumps(clips) + "\n")
