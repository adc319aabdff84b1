"""What `percept eval` costs beside the model: its share of the time, its memory, and how soon a large table begins; see README.md."""

import argparse
import io
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import pyarrow
import pyarrow.parquet
from PIL import Image

WORDS = "red blue large small round square left right above below cat dog tree house water stone light dark".split()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program, a release build")
    parser.add_argument("model", help="a model; with --side one that takes images")
    parser.add_argument("--rows", type=int, default=2000, help="questions of the timed run")
    parser.add_argument("--large", type=int, default=10000, help="questions of the table whose start is timed")
    parser.add_argument("--side", type=int, default=0, help="pixels of an image's side; 0 shows none")
    parser.add_argument("--stored", type=int, default=640, help="pixels of an image's side in a table that is not shown")
    parser.add_argument("--tokens", type=int, default=2, help="tokens of an answer")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", type=float, default=0.03, help="of the time that may be spent outside of the model")
    parser.add_argument("--start", type=float, default=2.0, help="seconds until the first answer that a large table may add")
    parser.add_argument("--growth", type=float, default=1.05, help="mean memory of the last third over that of the second")
    return parser.parse_args()


def picture(draw, side):
    """A photograph's worth of bytes: noise that JPEG does not squeeze."""
    small = Image.frombytes("RGB", (side // 4 + 1, side // 4 + 1), draw.randbytes(3 * (side // 4 + 1) ** 2))
    file = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def table(folder, rows, side):
    """A Parquet file as the hub has it, pages of 100 rows: a question, its answer and an image of some dozen."""
    draw = random.Random(5)
    pictures = [picture(draw, side) for _ in range(24)]
    text = pyarrow.array([f"{at}: " + " ".join(draw.choices(WORDS, k=6)) + "?" for at in range(rows)])
    answer = pyarrow.array(draw.choices(WORDS, k=rows))
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    folder.mkdir(parents=True)
    schema = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string()), ("image", kind)])
    with pyarrow.parquet.ParquetWriter(folder / "test-00000-of-00001.parquet", schema) as writer:
        for first in range(0, rows, 100):
            last = min(first + 100, rows)
            shown = [{"bytes": pictures[at % len(pictures)], "path": f"{at}.jpg"} for at in range(first, last)]
            columns = [text[first:last], answer[first:last], pyarrow.array(shown, kind)]
            writer.write_table(pyarrow.table(columns, schema=schema))


def task(folder, name, options):
    shown = 'image = "image"\n' if options.side else ""
    file = folder / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\n[data]\nfiles = "*.parquet"\n[ask]\nprompt = "{{{{ question }}}}"\n{shown}max_tokens = {options.tokens}\n'
        '[score]\nmetric = "exact"\nanswer = "answer"\n'
    )
    return file


class Run:
    """One run of the program over a table, watched from outside."""

    def __init__(self, options, folder, name, is_stopped=False):
        self.out = folder / f"{name}.out"
        # Answers that are there already are not asked for again.
        shutil.rmtree(self.out, ignore_errors=True)
        command = [options.percept, "eval", "--json", "--device", options.device, "--batch", str(options.batch), "--model", options.model]
        command += ["--tasks", str(task(folder, name, options)), "--data", str(folder), "--out", str(self.out)]
        self.first, self.memory, began = None, [], time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch = threading.Thread(target=self.watch, args=(self.out / f"{name}.journal.jsonl", began, is_stopped))
        watch.start()
        printed, errors = self.process.communicate()
        self.wall = time.monotonic() - began
        watch.join()
        if is_stopped:
            assert self.first is not None, errors
            return
        assert self.process.returncode == 0, errors
        found = json.loads(printed)["tasks"][name]
        assert found["failed"] == 0, f"{found['failed']} questions failed"
        self.model, self.seconds = found["model_seconds"], found["seconds"]

    def watch(self, journal, began, is_stopped):
        while self.process.poll() is None:
            # The first line says what run it is.
            if self.first is None and journal.exists() and journal.read_bytes().count(b"\n") > 1:
                self.first = time.monotonic() - began
                if is_stopped:
                    self.process.kill()
                    return
            status = pathlib.Path(f"/proc/{self.process.pid}/status")
            held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS")] if status.exists() else []
            if held and self.first is not None:
                self.memory.append(int(held[0]) / 1024)
            time.sleep(0.005 if self.first is None else 0.05)


def main():
    options = arguments()
    broken = []

    def hold(what, found, most):
        print(f"{what}: {found:.3f}, at most {most}")
        if found > most:
            broken.append(what)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        few, side = options.batch, options.side or options.stored
        for title, rows in [("few", few), ("many", options.rows), ("large", options.large)]:
            table(folder / title, rows, side)
        size = (folder / "large" / "test-00000-of-00001.parquet").stat().st_size
        Run(options, folder, "large", is_stopped=True)  # fills the system's cache
        small, many = Run(options, folder, "few"), Run(options, folder, "many")
        large = Run(options, folder, "large", is_stopped=True)
        # What a run of a few rows takes too is the start of the program and the loading of the model.
        beside = (many.wall - small.wall) - (many.model - small.model)
        print(f"{options.rows} questions: {many.wall:.2f} s, the model {many.model:.2f} s, the start {small.wall - small.model:.2f} s")
        hold("share of the time outside of the model", beside / many.wall, options.share)
        third = len(many.memory) // 3
        means = [statistics.mean(many.memory[at * third : (at + 1) * third]) for at in range(3)]
        print("memory by thirds: " + ", ".join(f"{mean:.1f} MB" for mean in means))
        hold("memory of the last third over the second", means[2] / means[1], options.growth)
        print(f"first answer of {few} rows after {small.first:.2f} s, of {options.large} rows ({size >> 20} MB) after {large.first:.2f} s")
        hold("seconds that the large table adds to the start", large.first - small.first, options.start)
    sys.exit(f"not kept: {', '.join(broken)}" if broken else 0)


if __name__ == "__main__":
    main()
