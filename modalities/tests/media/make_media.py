#!/usr/bin/env python3
"""Makes the clips and sounds of these tests, and what other programs decode them to.

Run in this folder with ffmpeg 5.1 on the path and numpy, soundfile, av, pillow and transformers installed; `hard` as an
argument makes the later ones only. Clips and sounds are synthetic. `video.json` holds, for each clip, what `ffmpeg -pix_fmt rgb24` makes of its frames (pillow for WebP):
FNV-1a hashes, and the mean colour of each quarter for machines on which swscale rounds otherwise. The `*.golden.f32`
files hold what soundfile (ffmpeg for AAC) decodes, the mean of the channels, little endian.
"""

import json
import pathlib
import struct
import subprocess
import sys

import av
import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 64, 48


def ffmpeg(*arguments, data=None):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE, cwd=HERE).stdout


def source(rate=25, frames=14, size=(WIDTH, HEIGHT)):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size[0]}x{size[1]}:rate={rate}", "-frames:v", frames]


def videos():
    x264 = ["-c:v", "libx264", "-threads", "1", "-crf", "30", "-x264-params", "keyint=9:bframes=3:b-adapt=0"]
    plain = ["-pix_fmt", "yuv420p", "-bitexact"]
    ffmpeg(*source(), *x264, *plain, "bframes.mp4")
    for angle in (90, 180, 270):
        ffmpeg("-i", "bframes.mp4", "-c", "copy", "-metadata:s:v", f"rotate={angle}", "-bitexact", f"rotated{angle}.mp4")
    times = "setpts='if(lt(N,5),N,5+(N-5)*4+mod(N,2))/25/TB'"
    ffmpeg(*source(), "-vf", times, "-vsync", "vfr", *x264, *plain, "vfr.mp4")
    ffmpeg(*source(), "-c:v", "libvpx-vp9", "-crf", "45", "-b:v", "0", "-auto-alt-ref", "1", "-lag-in-frames", "8",
           "-threads", "1", *plain, "vp9.webm")
    ffmpeg(*source(), "-c:v", "mpeg4", "-bf", "2", "-q:v", "8", *plain, "mpeg4.avi")
    ffmpeg(*source(), *x264, *plain, "-f", "h264", "raw.h264")
    ffmpeg(*source(size=(62, 46)), *x264, "-pix_fmt", "yuv422p10le", "-color_range", "pc", "-colorspace", "bt709",
           "-bitexact", "full709.mkv")
    ffmpeg(*source(rate=10, frames=6), "-bitexact", "animated.gif")
    ffmpeg(*source(rate=10, frames=6), "-bitexact", "-plays", "0", "-f", "apng", "animated.png")
    ffmpeg(*source(rate=10, frames=6), "-c:v", "libwebp_anim", "-lossless", "0", "-loop", "0", "-bitexact", "animated.webp")
    ffmpeg("-i", "bframes.mp4", "-c", "copy", "-movflags", "faststart", "-bitexact", "front.mp4")
    front = (HERE / "front.mp4").read_bytes()
    (HERE / "truncated.mp4").write_bytes(front[:-400])
    (HERE / "front.mp4").unlink()
    whole = (HERE / "bframes.mp4").read_bytes()
    (HERE / "headless.mp4").write_bytes(whole[: len(whole) // 2])


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def quarters(frame):
    height, width = frame.shape[:2]
    rows, columns = (slice(0, height // 2), slice(height // 2, height)), (slice(0, width // 2), slice(width // 2, width))
    return [round(float(v), 2) for r in rows for c in columns for v in frame[r, c].mean(axis=(0, 1))]


def webp(path):
    image = Image.open(path)
    frames, milliseconds = [], 0
    for index in range(image.n_frames):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
        milliseconds += image.info["duration"]
    return frames, 1000 * len(frames) / milliseconds


def golden(name):
    path = HERE / name
    if name.endswith(".webp"):
        frames, fps = webp(path)
    else:
        container = av.open(str(path))
        stream = container.streams.video[0]
        fps = float(stream.average_rate)
        width, height = stream.width, stream.height
        if "90" in name or "270" in name:
            width, height = height, width
        raw = np.frombuffer(ffmpeg("-i", name, "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
        frames = list(raw.reshape(-1, height, width, 3))
        if name in ("screen.mkv", "vfr.mp4"):
            # The stated rate is that of the first frames, or of the order of decoding.
            probe = ["ffprobe", "-v", "error", "-show_entries", "frame=pts_time,pkt_duration_time", "-of", "csv=p=0", name]
            lines = subprocess.run(probe, check=True, stdout=subprocess.PIPE, cwd=HERE, text=True).stdout.split()
            shown = [tuple(map(float, line.strip(",").split(","))) for line in lines]
            fps = len(frames) / (max(shown)[0] + max(shown)[1] - min(shown)[0])
    height, width = frames[0].shape[:2]
    hashes, means = [fnv(frame.tobytes()) for frame in frames], [quarters(frame) for frame in frames]
    return dict(width=width, height=height, fps=fps, hashes=hashes, quarters=means)


def disposing():
    """Animations whose frames cover parts of the canvas, are blended, and are disposed of in every way."""
    patches = []
    for i in range(6):
        patch = np.zeros((48, 64, 4), np.uint8)
        patch[8 + i : 24 + i, 4 + 8 * i : 20 + 8 * i] = (220, 30 + 20 * i, 30, 255)
        patch[30:34, 10:50] = (20, 200, 240, 60 + 30 * i)
        patches.append(Image.fromarray(patch))
    patches[0].save(HERE / "blended.webp", save_all=True, append_images=patches[1:], duration=[100, 300, 100, 50, 100, 100],
                    lossless=True, background=(0, 0, 0, 0), minimize_size=True)
    solid = [Image.alpha_composite(Image.new("RGBA", p.size, (9, 9, 9, 255)), p).convert("RGB") for p in patches]
    solid[0].save(HERE / "disposed.png", format="PNG", save_all=True, append_images=patches[1:], duration=100,
                  disposal=[0, 1, 2, 1, 2, 0], blend=1)
    # Whole frames of a palette with nothing transparent: each frame is a box that is put back, cleared or left.
    solid[0].save(HERE / "disposed.gif", save_all=True, append_images=solid[1:], duration=100, disposal=[1, 1, 3, 3, 2, 1])


def hard():
    """Clips whose rate varies, and sounds whose headers lie."""
    x264 = ["-c:v", "libx264", "-threads", "1", "-crf", "30", "-pix_fmt", "yuv420p", "-bitexact"]
    # A screen that moves for a third of a second, and then every two seconds, as OBS and phones store it.
    times = "setpts='if(lt(N,10),N/30,2*(N-9))/TB'"
    ffmpeg(*source(rate=30, frames=20), "-vf", times, "-vsync", "vfr", *x264, "screen.mkv")
    ffmpeg(*source(rate=5, frames=10), *x264, "slow.mp4")
    ffmpeg("-i", "slow.mp4", "-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-c:v", "copy", "-c:a", "libopus", "-b:a", "16k", "-bitexact", "talk.mkv")
    # A recording whose times begin late, as one that was cut out of a longer one.
    ffmpeg("-itsoffset", 5, "-i", "talk.mkv", "-c", "copy", "-bitexact", "late.mkv")
    # Two seconds of a rate that varies, quiet first: without a table of contents, and with one that counts no frame.
    quiet_then_noise = "aevalsrc='if(lt(t,1),0,0.4*sin(2*PI*330*t)+0.3*random(0))':d=2:s=16000"
    vbr = ["-f", "lavfi", "-i", quiet_then_noise, "-c:a", "libmp3lame", "-q:a", "6", "-bitexact", "-id3v2_version", "0"]
    ffmpeg(*vbr, "-write_xing", "0", "bare.mp3")
    ffmpeg(*vbr, "counted.mp3")
    counted = bytearray((HERE / "counted.mp3").read_bytes())
    at = counted.find(b"Xing")
    for name, frames in [("uncounted.mp3", 0), ("miscounted.mp3", 20)]:
        struct.pack_into(">I", counted, at + 8, frames)
        (HERE / name).write_bytes(counted)
    (HERE / "counted.mp3").unlink()
    # Sounds shorter than any decoder's patience.
    for ending, encoder in {"mp3": ["-c:a", "libmp3lame", "-b:a", "32k"], "opus": ["-c:a", "libopus", "-b:a", "16k"],
                            "aac": ["-c:a", "aac", "-b:a", "32k"], "flac": ["-c:a", "flac"]}.items():
        ffmpeg("-f", "lavfi", "-i", "sine=frequency=440:duration=0.05:sample_rate=16000", *encoder, "-bitexact", f"short.{ending}")
    # Wave files of compressed sound, whose headers state bytes of a second that FFmpeg's encoder gets wrong.
    for codec in ["adpcm_ms", "adpcm_ima_wav"]:
        ffmpeg("-f", "lavfi", "-i", "sine=frequency=440:duration=0.6:sample_rate=16000", "-c:a", codec, "-bitexact", f"{codec}.wav")
    # What FFmpeg's command decodes of them: samples at 16 kHz.
    lengths = {}
    for name in ["bare.mp3", "uncounted.mp3", "miscounted.mp3", "short.mp3", "short.opus", "short.aac", "short.flac", "talk.mkv", "adpcm_ms.wav", "adpcm_ima_wav.wav"]:
        rate = 48000 if "opus" in name or "mkv" in name else 16000
        raw = ffmpeg("-i", name, "-f", "s16le", "-ac", 1, "-ar", rate, "-map", "a", "-")
        lengths[name] = [rate, len(raw) // 2]
    (HERE / "lengths.json").write_text(json.dumps(lengths, indent=1) + "\n")


def sounds():
    import soundfile
    from transformers import WhisperFeatureExtractor

    rng = np.random.default_rng(7)

    def signal(samples, rate):
        t = np.arange(samples) / rate
        left = 0.6 * np.sin(2 * np.pi * (200 * t + 2000 * t**2)) + 0.05 * rng.standard_normal(samples)
        right = 0.5 * np.sin(2 * np.pi * 330 * t)
        return np.stack([left, right], 1).clip(-0.99, 0.99)

    def keep(name, sound):
        sound.mean(axis=1).astype("<f4").tofile(HERE / f"{name}.golden.f32")

    short = signal(300, 8000)
    for name, subtype in [("u8", "PCM_U8"), ("s16", "PCM_16"), ("s24", "PCM_24"), ("s32", "PCM_32"), ("f32", "FLOAT"),
                          ("f64", "DOUBLE"), ("alaw", "ALAW"), ("mulaw", "ULAW")]:
        path = HERE / f"{name}.wav"
        soundfile.write(path, short, 8000, subtype=subtype)
        keep(path.name, soundfile.read(path)[0])
    for name, subtype in [("s16", "PCM_16"), ("s24", "PCM_24")]:
        path = HERE / f"{name}.flac"
        soundfile.write(path, short, 8000, subtype=subtype)
        keep(path.name, soundfile.read(path)[0])
    # The same samples in containers that libsndfile does not know.
    for form in ["tta", "wv", "voc"]:
        ffmpeg("-i", "s16.wav", "-bitexact", f"s16.{form}")
    # Eight channels, to be mixed down with equal weights.
    path = HERE / "channels8.wav"
    soundfile.write(path, 0.9 * rng.uniform(-1, 1, (100, 8)), 48000, subtype="PCM_16")
    keep(path.name, soundfile.read(path)[0])

    # What Whisper hears: the features of transformers' extractor, for both numbers of bands.
    path = HERE / "speech.wav"
    soundfile.write(path, signal(11777, 16000).mean(axis=1) * np.sin(np.arange(11777) / 900), 16000, subtype="PCM_16")
    for bands in (80, 128):
        extractor = WhisperFeatureExtractor(feature_size=bands, chunk_length=1)
        features = extractor(soundfile.read(path)[0], sampling_rate=16000, return_tensors="np").input_features
        features.astype("<f4").tofile(HERE / f"speech.log_mel{bands}.f32")

    # A length that is no multiple of any codec's frame shows whether delay and padding are cut off.
    long = signal(3333, 16000)
    data = long.astype("<f4").tobytes()
    encoders = {"mp3": ["-c:a", "libmp3lame", "-b:a", "64k"], "m4a": ["-c:a", "aac", "-b:a", "64k"],
                "aac": ["-c:a", "aac", "-b:a", "64k"], "ogg": ["-c:a", "libvorbis", "-q:a", "3"],
                "opus": ["-c:a", "libopus", "-b:a", "48k"]}
    for ending, encoder in encoders.items():
        name = f"lossy.{ending}"
        ffmpeg("-f", "f32le", "-ar", 16000, "-ac", 2, "-i", "-", *encoder, "-bitexact", name, data=data)
        raw = ffmpeg("-i", name, "-f", "f32le", "-")
        keep(name, np.frombuffer(raw, "<f4").reshape(-1, 2).astype(np.float64))


if __name__ == "__main__":
    if "hard" not in sys.argv:
        videos()
        sounds()
    disposing()
    hard()
    endings = (".mp4", ".webm", ".avi", ".h264", ".mkv", ".gif", ".png", ".webp")
    names = sorted(p.name for p in HERE.iterdir() if p.suffix in endings and p.name != "headless.mp4")
    table = HERE / "video.json"
    known = json.loads(table.read_text()) if "hard" in sys.argv else {}
    known |= {name: golden(name) for name in names if name not in known}
    table.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
