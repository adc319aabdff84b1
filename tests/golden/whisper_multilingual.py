"""Writes tests/multilingual: a tiny Whisper of three languages with random weights, and what transformers generates with it for
each language and task, and which language it detects.

Run from the root of the repository with transformers 5: `python tests/golden/whisper_multilingual.py`
"""
import json, os, shutil

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np, torch, transformers, wave
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration

FROM, TO = "tests/parity/whisper/model", "tests/multilingual/model"
LANGUAGES = ["en", "fr", "de"]
SPECIAL = [f"<|{name}|>" for name in LANGUAGES + ["translate", "transcribe", "startoflm", "startofprev", "nospeech"]]

shutil.rmtree(TO, ignore_errors=True)
os.makedirs(TO)
# The special tokens stand as in published files: text, end, start, languages, tasks, the others, then the timestamps.
tokenizer = json.load(open(f"{FROM}/tokenizer.json"))
text = len(tokenizer["model"]["vocab"])
names = ["<|endoftext|>", "<|startoftranscript|>", *SPECIAL, "<|notimestamps|>"] + [f"<|{0.02 * i:.2f}|>" for i in range(101)]
kept = [token for token in tokenizer["added_tokens"] if token["id"] < text]
for i, name in enumerate(names):
    kept.append({"id": text + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                 "special": not name.startswith(("<|0", "<|1", "<|2"))})
tokenizer["added_tokens"] = kept
json.dump(tokenizer, open(f"{TO}/tokenizer.json", "w"), ensure_ascii=False)
T = PreTrainedTokenizerFast(tokenizer_file=f"{TO}/tokenizer.json", pad_token="<pad>", eos_token="<|endoftext|>")
ids = {name: T.convert_tokens_to_ids(name) for name in names}

torch.manual_seed(11)
config = WhisperConfig.from_pretrained(FROM)
config.vocab_size, config.init_std = text + len(names), 0.3
config.decoder_start_token_id, config.eos_token_id = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
config.begin_suppress_tokens = None
model = WhisperForConditionalGeneration(config).eval()
generation = GenerationConfig(
    is_multilingual=True, decoder_start_token_id=config.decoder_start_token_id, eos_token_id=config.eos_token_id, pad_token_id=0,
    lang_to_id={f"<|{name}|>": ids[f"<|{name}|>"] for name in LANGUAGES},
    task_to_id={name: ids[f"<|{name}|>"] for name in ["translate", "transcribe"]},
    no_timestamps_token_id=ids["<|notimestamps|>"], max_initial_timestamp_index=50, max_length=64, return_timestamps=False,
    suppress_tokens=list(range(ids["<|startoftranscript|>"], config.vocab_size)), begin_suppress_tokens=[ids["<|endoftext|>"]],
)
model.generation_config = generation
model.save_pretrained(TO)
T.save_pretrained(TO)
for name in ["preprocessor_config.json"]:
    shutil.copy(f"{FROM}/{name}", f"{TO}/{name}")

extractor = WhisperFeatureExtractor.from_pretrained(FROM)
with wave.open("tests/parity/media/chirp7.wav") as file:
    assert file.getframerate() == 16000 and file.getnchannels() == 1
    samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
features = extractor(samples, sampling_rate=16000, return_tensors="pt").input_features
cases = []
for language in [None, *LANGUAGES]:
    for task in ["transcribe", "translate"]:
        how = dict(task=task, return_timestamps=False, do_sample=False, max_new_tokens=32)
        with torch.no_grad():
            found = model.generate(features, language=language, **how)[0]
            detected = model.detect_language(features)[0] if language is None else ids[f"<|{language}|>"]
        said = [int(i) for i in found if int(i) < text]
        cases.append(dict(language=language, translate=task == "translate", tokens=said,
                          text=T.decode(said, skip_special_tokens=True),
                          spoken=T.convert_ids_to_tokens(int(detected)).strip("<|>")))
        print(cases[-1])
json.dump(dict(transformers=transformers.__version__, audio="chirp7.wav", new_tokens=32, cases=cases),
          open("tests/multilingual/expected.json", "w"), indent=1, ensure_ascii=False)
