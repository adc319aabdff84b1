"""Drives report.html of `percept eval`, and the page of `percept eval compare`, in headless Chromium.

    python3 -m venv /tmp/page && /tmp/page/bin/pip install -r serve/tests/page/requirements.txt
    /tmp/page/bin/playwright install chromium       # or --chromium /usr/bin/chromium
    cargo build && /tmp/page/bin/python eval/tests/page/drive.py target/debug/percept

It asks tiny models of random weights the questions of the golden tasks, opens what comes of it as files, and holds the pages to axe-core.
`--only WORD` runs the checks whose name holds the word, `--screenshots DIR` keeps pictures to look at. The exit code is 1 when a check failed.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[3]
PARITY = ROOT / "tests/parity"
CLIPS = """
name = "clips"
[data]
files = "rows.jsonl"
[ask]
video = "clip"
prompt = "Does it move? Answer with yes or no."
max_tokens = 4
[score]
metric = "yes-no"
answer = "answer"
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("percept", help="the program")
    parser.add_argument("--chromium", help="path of a Chromium to use instead of Playwright's")
    parser.add_argument("--only", default="", help="run the checks whose name holds this word")
    parser.add_argument("--screenshots", type=pathlib.Path, help="folder for pictures")
    return parser.parse_args()


class Runs:
    """What the program wrote into a folder: a run is made when a check first asks for it."""

    def __init__(self, percept, folder):
        self.percept, self.folder = percept, folder

    def percept_eval(self, *words):
        done = subprocess.run([self.percept, "eval", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self, name, model, tasks, *more, data=ROOT / "eval/tests/golden/tasks"):
        """The folder of a run of tasks on a tiny model."""
        out = self.folder / name
        if not out.exists():
            self.percept_eval("--model", PARITY / model / "model", "--device", "cpu", "--tasks", tasks, "--data", data, "--out", out, *more)
        return out

    def images(self):
        return self.run("images", "qwen2-vl-image", "pope,ai2d", "--explain") / "report.html"

    def videos(self):
        """A task of one's own, whose clips play in a browser."""
        data = self.folder / "data/clips"
        if not data.exists():
            data.mkdir(parents=True)
            clips = [ROOT / "modalities/tests/media" / name for name in ["vp9.webm", "bframes.mp4"]]
            for clip in clips:
                shutil.copy(clip, data)
            rows = [{"clip": clip.name, "answer": "yes"} for clip in clips]
            (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (self.folder / "clips.toml").write_text(CLIPS)
        return self.run("videos", "qwen2-vl-video", self.folder / "clips.toml", data=data.parent) / "report.html"

    def sounds(self):
        return self.run("sounds", "qwen2-audio", "librispeech_test_clean") / "report.html"

    def compared(self):
        page = self.folder / "compared.html"
        first = self.run("images", "qwen2-vl-image", "pope,ai2d", "--explain")
        second = self.run("other", "gemma3", "pope,ai2d")
        self.percept_eval("compare", first, second, "--html", page)
        return page


class Opened:
    """A page in a browser of its own. It hears what the page asks for, and what it complains about."""

    def __init__(self, browser, options, name):
        self.options, self.name, self.heard = options, name, []
        self.context = browser.new_context(viewport={"width": 1280, "height": 860})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("console", lambda message: self.heard.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("request", self._request)

    def _request(self, request):
        # The file itself, and what is written into it.
        if request.url != self.file and not request.url.startswith(("data:", "blob:")):
            self.heard.append(f"the page asked for {request.url[:200]}")

    def open(self, path):
        self.file = path.resolve().as_uri()
        self.page.goto(self.file)
        return self.page

    def shown(self):
        return self.page.locator(".sample:visible")

    def axe(self):
        found = Axe().run(self.page).response["violations"]
        told = [f"{v['id']}: {v['help']}: {n['target']} {n['failureSummary']}" for v in found for n in v["nodes"]]
        assert not told, "\n".join(told)

    def picture(self, what, whole=False):
        if self.options.screenshots:
            self.options.screenshots.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.options.screenshots / f"{self.name}-{what}.png", full_page=whole)

    def is_narrow(self):
        """Nothing but what scrolls by itself is wider than the window."""
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.page.viewport_size["width"], f"the page is {width} pixels wide"


def wrong_and_unparsed_answers_are_shown_alone(s, runs):
    page = s.open(runs.images())
    every = s.shown().count()
    assert every > 10 and page.inner_text("#count") == f"{every} of {every} samples"
    for kind in ["wrong", "unparsed", "failed"]:
        page.select_option("#kind", kind)
        marked = page.locator(f".sample[data-kinds~='{kind}'], .sample[data-kinds*='{kind}']").count()
        assert s.shown().count() == marked, kind
        assert page.inner_text("#count") == f"{marked} of {every} samples"
    page.select_option("#kind", "wrong")
    assert s.shown().count() > 0, "models of random weights are wrong"
    s.picture("wrong")
    page.select_option("#kind", "")
    page.select_option("#task", "pope")
    assert 0 < s.shown().count() < every
    assert all("pope" in text for text in s.shown().all_inner_texts())
    page.select_option("#task", "")
    word = "dog"
    page.fill("#words", word)
    texts = s.shown().all_text_contents()
    assert 0 < len(texts) < every and all(word in text.lower() for text in texts)
    page.fill("#words", "no sample has these words")
    assert s.shown().count() == 0


def a_sample_opens_with_its_image_and_what_the_model_was_given(s, runs):
    page = s.open(runs.images())
    sample = s.shown().first
    image = sample.locator("img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    told = sample.locator("pre")
    assert not told.is_visible()
    # By the keyboard.
    sample.locator("summary").focus()
    page.keyboard.press("Enter")
    assert told.is_visible()
    text = told.inner_text()
    assert "tokens" in text and '"kind": "image"' in text and "grid" in text, text
    s.picture("opened")
    s.axe()


def the_finding_of_explain_is_told(s, runs):
    page = s.open(runs.images())
    text = page.inner_text("body")
    assert "Agreement with the reference" in text
    # The cpu is held to itself.
    assert re.search(r"pope: question \d+, divergence .*: none of \d+ operations", text), text[:2000]


def a_clip_plays(s, runs):
    page = s.open(runs.videos())
    clip = page.locator("video").first
    clip.scroll_into_view_if_needed()
    clip.evaluate("clip => clip.play()")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0")
    assert clip.evaluate("clip => clip.videoWidth") > 0
    s.picture("playing")


def a_sound_plays(s, runs):
    page = s.open(runs.sounds())
    sound = page.locator("audio").first
    assert sound.evaluate("sound => new Promise((done) => sound.readyState ? done(sound.duration) : sound.onloadedmetadata = () => done(sound.duration))") > 0
    sound.evaluate("sound => { sound.muted = true; return sound.play(); }")
    page.wait_for_function("() => { const s = document.querySelector('audio'); return s.currentTime > 0 || s.ended; }")
    s.picture("sound")
    s.axe()


def two_runs_are_compared(s, runs):
    page = s.open(runs.compared())
    every = s.shown().count()
    assert every > 0, "two models of random weights answer differently"
    counts = []
    for kind in ["better in the first", "better in the second"]:
        page.select_option("#kind", kind)
        counts.append(s.shown().count())
    assert sum(counts) <= every
    page.select_option("#kind", "")
    text = s.shown().first.inner_text()
    assert "first:" in text and "second:" in text and "right:" in text, text
    s.picture("whole", whole=True)
    s.axe()


def pages_fit_a_telephone_by_day_and_by_night(s, runs):
    for path in [runs.images(), runs.sounds(), runs.compared()]:
        s.page.set_viewport_size({"width": 400, "height": 800})
        for scheme in ["light", "dark"]:
            s.page.emulate_media(color_scheme=scheme)
            page = s.open(path)
            s.is_narrow()
            red, *_ = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
            assert (red < 100) == (scheme == "dark"), f"the ground is {red} when it is {scheme}"
            s.axe()
            name = path.parent.name if path.stem == "report" else path.stem
            s.picture(f"{name}-{scheme}")
            page.locator("#samples").scroll_into_view_if_needed()
            s.picture(f"{name}-{scheme}-samples")


ALL = [
    wrong_and_unparsed_answers_are_shown_alone,
    a_sample_opens_with_its_image_and_what_the_model_was_given,
    the_finding_of_explain_is_told,
    a_clip_plays,
    a_sound_plays,
    two_runs_are_compared,
    pages_fit_a_telephone_by_day_and_by_night,
]


def main():
    options = arguments()
    checks = [check for check in ALL if options.only in check.__name__]
    if not checks:
        sys.exit(f"no check is called like {options.only!r}")
    failed = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Runs(pathlib.Path(options.percept).resolve(), pathlib.Path(folder))
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        for check in checks:
            session = Opened(browser, options, check.__name__)
            try:
                check(session, runs)
                assert not session.heard, session.heard
                print(f"ok   {check.__name__}", flush=True)
            except Exception:  # noqa: BLE001 - every check gets its turn, and what it said is printed
                failed.append(check.__name__)
                print(f"FAIL {check.__name__}\n{traceback.format_exc()}{session.heard}", flush=True)
                session.picture("failed")
            finally:
                session.context.close()
        browser.close()
    print(f"{len(checks) - len(failed)} of {len(checks)} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
