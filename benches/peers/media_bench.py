#!/usr/bin/env python3
"""The peers of `percept bench transcribe|embed|preprocess`: faster-whisper, PyTorch, sentence-transformers, Pillow and PyAV.

Without --serve a peer measures its one row and prints one JSON document. With --serve it first prints one line that
describes it, then answers each line of standard input, {"bench": ..., "settings": {...}}, with one line in the shape of
`percept bench --json`. What percept and the peer both read is made in --folder first: the five sentences of tests/speech
one after another, a SigLIP with random weights, a picture with the spectrum of a photograph, a film of it moving.
"""

import argparse
import importlib.metadata
import io
import json
import os
import pathlib
import statistics
import sys
import time

SPEECH = pathlib.Path(__file__).resolve().parents[2] / "tests/speech"


def milliseconds(runs, work):
    """The first call's time, and those of `runs` more."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times[0], times[1:]


def photograph(width, height):
    """A picture whose frequencies are as strong as in photographs: by one over the frequency."""
    import numpy as np

    noise = np.random.default_rng(7).standard_normal((3, height, width))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    planes = np.fft.irfft2(np.fft.rfft2(noise) / np.maximum(np.hypot(y, x), 1 / width), (height, width))
    planes = (planes - planes.mean((1, 2), keepdims=True)) / planes.std((1, 2), keepdims=True)
    return np.moveaxis((128 + 50 * planes).clip(0, 255).astype(np.uint8), 0, -1).copy()


class FasterWhisper:
    """Greedy, one try, float32; without timestamps, as percept says sound of one window."""

    def __init__(self, folder, threads):
        import numpy as np
        import soundfile

        self.threads, self.path, self.file = threads, None, folder / "speech.wav"
        sentences = [soundfile.read(file, dtype="int16")[0] for file in sorted(SPEECH.glob("*.flac"))]
        soundfile.write(self.file, np.concatenate(sentences), 16000)

    def about(self):
        return "faster-whisper", importlib.metadata.version("faster-whisper")

    def measure(self, settings, runs):
        import numpy as np
        import soundfile
        from faster_whisper import WhisperModel

        if settings["model"] != self.path:
            self.path = settings["model"]
            self.model = WhisperModel(self.path, compute_type="float32", cpu_threads=self.threads)
        sound = soundfile.read(self.file, dtype="float32")[0][: int(settings["seconds"] * 16000)]
        features = self.model.feature_extractor(sound)[:, :3000]
        features = np.pad(features, ((0, 0), (0, 3000 - features.shape[1])))
        _, encoder = milliseconds(runs, lambda: np.asarray(self.model.encode(features)).sum())
        text = []

        def transcribe():
            options = dict(beam_size=1, temperature=0.0, condition_on_previous_text=False, without_timestamps=True)
            text[:] = [s.text for s in self.model.transcribe(sound, **options)[0]]

        times = milliseconds(runs, transcribe)
        more = dict(words=len(" ".join(text).split()), encoder_median_ms=statistics.median(encoder))
        return *times, settings["seconds"], "seconds of audio/s", more


class Siglip:
    """The image tower of SigLIP-base/16-224 in PyTorch, float32."""

    def __init__(self, folder, threads):
        import torch
        from tokenizers import Tokenizer, models
        from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.model = torch, SiglipModel(SiglipConfig()).eval()
        folder = folder / "siglip"
        self.model.save_pretrained(folder)
        SiglipImageProcessor().save_pretrained(folder)
        words = models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>")
        Tokenizer(words).save(str(folder / "tokenizer.json"))

    def about(self):
        return f"torch {self.torch.backends.cpu.get_cpu_capability()}", self.torch.__version__

    def measure(self, settings, runs):
        pixels = self.torch.rand(settings["batch"], 3, 224, 224) * 2 - 1
        with self.torch.inference_mode():
            times = milliseconds(runs, lambda: self.model.get_image_features(pixels))
        return *times, settings["batch"], "images/s", {}


class Sentences:
    """An encoder of texts in sentence-transformers, float32: the texts that `percept bench embed` makes."""

    WORDS = "harbour wall morning boat net people water fish bread coffee child wind north day winter story".split()

    def __init__(self, folder, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.path = torch, None

    def about(self):
        version = importlib.metadata.version("sentence-transformers")
        return f"sentence-transformers, torch {self.torch.backends.cpu.get_cpu_capability()}", version

    def measure(self, settings, runs):
        from sentence_transformers import SentenceTransformer

        if settings["model"] != self.path:
            self.path = settings["model"]
            self.model = SentenceTransformer(self.path, device="cpu")
        batch, words = settings["batch"], settings["words"]
        texts = [" ".join(self.WORDS[(7 * i + 3 * w + i * w) % len(self.WORDS)] for w in range(words)) for i in range(batch)]
        options = dict(batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
        times = milliseconds(runs, lambda: self.model.encode(texts, **options))
        return *times, batch, "texts/s", {}


class Pillow:
    """Decodes, resizes bicubically and normalizes as the PIL image processors of transformers do, one after another."""

    def __init__(self, folder, threads):
        from PIL import Image

        self.file = folder / "photo.jpg"
        Image.fromarray(photograph(1000, 750)).save(self.file, quality=90)

    def about(self):
        return "pillow", importlib.metadata.version("pillow")

    def measure(self, settings, runs):
        import numpy as np
        from PIL import Image

        data, half = self.file.read_bytes(), np.full(3, 0.5, np.float32)

        def prepare():
            for _ in range(settings["batch"]):
                image = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
                planes = np.moveaxis(np.array(image), -1, 0)
                planes = (planes.astype(np.float64) * (1 / 255)).astype(np.float32)
                np.ascontiguousarray(((planes.T - half) / half).T)

        return *milliseconds(runs, prepare), settings["batch"], "images/s", {}


class PyAv:
    """A film to RGB, with FFmpeg's threads on."""

    def __init__(self, folder, threads):
        import av

        self.av, self.file, self.frames = av, folder / "film.mp4", 240
        wide = photograph(640 + 2 * self.frames, 360 + self.frames)
        with av.open(str(self.file), "w") as film:
            stream = film.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for i in range(self.frames):
                frame = av.VideoFrame.from_ndarray(wide[i : i + 360, 2 * i : 2 * i + 640].copy(), format="rgb24")
                film.mux(stream.encode(frame))
            film.mux(stream.encode())

    def about(self):
        return "pyav", self.av.__version__

    def measure(self, settings, runs):
        def decode():
            with self.av.open(str(self.file)) as film:
                stream = film.streams.video[0]
                stream.thread_type = "AUTO"
                frames = sum(frame.to_ndarray(format="rgb24").shape[2] == 3 for frame in film.decode(stream))
                assert frames == self.frames

        return *milliseconds(runs, decode), self.frames, "frames/s", {}


PEERS = dict(whisper=FasterWhisper, siglip=Siglip, sentences=Sentences, pillow=Pillow, pyav=PyAv)


def measure(peer, settings, runs):
    first, times, work, unit, more = peer.measure(settings, runs)
    median = statistics.median(times)
    return dict(device="cpu", settings=settings, median_ms=median, min_ms=min(times), runs=runs,
                rate=work / median * 1e3, rate_unit=unit, first_call_ms=first, **more)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where what is read is made")
    parser.add_argument("--model", help="a CTranslate2 folder of Whisper, without --serve")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    peer = PEERS[args.peer](args.folder, args.threads)
    name, version = peer.about()
    about = dict(peer=name, version=version, threads=1 if args.peer == "pillow" else args.threads)
    if not args.serve:
        settings = dict(model=args.model, seconds=30, batch=8)
        print(json.dumps(dict(about=about, row=measure(peer, settings, args.runs))))
        return
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        try:
            answer = measure(peer, json.loads(line)["settings"], args.runs)
        except Exception as error:  # The row fails, the peer goes on.
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
