"""Drives the web page of a running `percept serve` in headless Chromium.

    python3 -m venv /tmp/page && /tmp/page/bin/pip install -r serve/tests/page/requirements.txt
    /tmp/page/bin/playwright install chromium       # or --chromium /usr/bin/chromium
    percept serve --model tests/parity/qwen2-vl-image/model --port 8080
    /tmp/page/bin/python serve/tests/page/drive.py http://127.0.0.1:8080

What a model says does not matter, so one of random weights will do; it has to take images. `--only WORD` runs the checks
whose name holds the word, `--screenshots DIR` keeps pictures to look at. The exit code is 1 when a check failed.
"""

import argparse
import json
import pathlib
import sys
import time
import traceback

from playwright.sync_api import sync_playwright

import checks
from session import Session


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="address of the server, such as http://127.0.0.1:8080")
    parser.add_argument("--model", help="the model to ask; by default the first of the server")
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of an answer")
    parser.add_argument("--key", help="API key of the server")
    parser.add_argument("--chromium", help="path of a Chromium to use instead of Playwright's")
    parser.add_argument("--only", default="", help="run the checks whose name holds this word")
    parser.add_argument("--screenshots", type=pathlib.Path, help="folder for pictures")
    options = parser.parse_args()

    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    failed, count = [], 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=arguments)
        for check in checks.ALL:
            if options.only not in check.__name__:
                continue
            count += 1
            began = time.monotonic()
            session = Session(browser, options)
            try:
                check(session)
                session.end()
                print(f"ok   {check.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:  # noqa: BLE001 - every check gets its turn, and what it said is printed
                failed.append(check.__name__)
                print(f"FAIL {check.__name__}\n{traceback.format_exc()}{json.dumps(session.heard, indent=1)}", flush=True)
                session.picture(f"failed-{check.__name__}")
            finally:
                session.context.close()
        browser.close()
    if count == 0:
        sys.exit(f"no check is called like {options.only!r}")
    print(f"{count - len(failed)} of {count} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
