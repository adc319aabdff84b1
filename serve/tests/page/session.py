"""A page in a browser of its own, and what checks do with it."""

import base64
import json
import pathlib

from axe_playwright_python.sync_playwright import Axe

ROOT = pathlib.Path(__file__).resolve().parents[3]
IMAGE = ROOT / "tests/parity/media/a7.png"
CHAT = "**/v1/chat/completions"
PATIENCE = 120_000

DROP = """([name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


class Session:
    """One page with nothing kept from before. It hears what the page asks for, and what it complains about."""

    def __init__(self, browser, options):
        self.options = options
        self.server = options.server.rstrip("/")
        self.context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
        self.context.grant_permissions(["microphone", "clipboard-read", "clipboard-write"], origin=self.server)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.heard = []  # complaints
        self.bodies = []  # what was sent to the model
        self.keys = []  # with which authorization
        self.pretends = False
        self.page.on("pageerror", lambda error: self.heard.append(f"{error}\n{error.stack}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message):
        # The browser itself tells of answers with an error, which are what some checks are about.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.heard.append(message.text)

    def _request(self, request):
        if request.url.startswith("http") and not request.url.startswith(self.server + "/"):
            self.heard.append(f"the page asked for {request.url}")
        if request.url.endswith("/v1/chat/completions"):
            self.bodies.append(request.post_data_json)
            self.keys.append(request.all_headers().get("authorization"))

    def end(self):
        """Fails when the page complained, was stopped by its content security policy, or asked another server."""
        assert not self.heard, self.heard

    def open(self, **settings):
        """The page with its models read, and with settings that make answers short."""
        if self.options.key:
            self.context.add_init_script(f"sessionStorage.setItem('percept.key', {json.dumps(self.options.key)})")
        self.page.goto(self.server + "/")
        self.page.wait_for_selector("#model option", state="attached")
        if self.options.model and not self.pretends:
            self.page.select_option("#model", self.options.model)
        self.set(max_completion_tokens=self.options.tokens, **settings)
        return self.page

    def set(self, **settings):
        """Fill fields of the settings."""
        self.page.click("#open-settings")
        for name, value in settings.items():
            self.page.fill(f"#{name}", str(value))
        self.page.keyboard.press("Escape")
        self.page.wait_for_selector("#settings", state="hidden")

    def drop(self, path=IMAGE, name=None, kind="image/png"):
        """Drop a file on the page."""
        before = self.page.locator("#attached li").count()
        data = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(DROP, [name or path.name, kind, data])
        self.page.wait_for_function("n => document.querySelectorAll('#attached li').length > n", arg=before)

    def send(self, text):
        """Write a message and send it with Enter."""
        self.page.fill("#prompt", text)
        self.page.keyboard.press("Enter")

    def ask(self, text):
        """Send a message and wait for the end of its answer."""
        before = self.page.locator(".answer").count()
        self.send(text)
        self.page.wait_for_function("n => document.querySelectorAll('.answer').length > n", arg=before)
        self.wait()

    def wait(self):
        """Wait until no answer is being written."""
        self.page.wait_for_selector("#send", state="visible")
        self.page.wait_for_function("() => !document.querySelector('.answer[aria-busy=\"true\"]')")

    def answer(self):
        """The text of the last answer."""
        return self.page.locator(".answer .text").last.text_content()

    def texts(self):
        """What stands in all messages."""
        return self.page.locator(".turn .text").all_text_contents()

    def stats(self):
        """What is told below the last answer."""
        return self.page.locator(".answer .acts").last.text_content()

    def slowly(self, bytes_per_second):
        """Let answers come in slowly, so that there is time to watch and to stop them, however fast the model is."""
        client = self.context.new_cdp_session(self.page)
        client.send("Network.enable")
        limits = {"offline": False, "latency": 0, "uploadThroughput": -1, "downloadThroughput": bytes_per_second}
        client.send("Network.emulateNetworkConditions", limits)

    def replies(self, text=None, status=200, headers=None, body=None):
        """From now on every question gets this answer, whatever the server would say."""
        if text is not None:
            pieces = [{"role": "assistant", "content": ""}, {"content": text}]
            chunks = [{"choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
            chunks.append({"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 3}}})
            body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            headers = {"content-type": "text/event-stream"}
        self.page.unroute(CHAT)
        self.page.route(CHAT, lambda route: route.fulfill(status=status, headers=headers or {}, body=body or ""))

    def any_media(self):
        """Let the page believe in a model that takes media of all kinds; it needs `replies` then."""
        self.pretends = True
        document = {"object": "list", "data": [{"id": "all", "object": "model"}]}
        self.page.route("**/v1/models", lambda route: route.fulfill(json=document))

    def axe(self, what):
        """Fails when axe-core finds anything against accessibility."""
        found = Axe().run(self.page).response["violations"]
        told = [f"{v['id']}: {v['help']}: {n['target']} {n['failureSummary']}" for v in found for n in v["nodes"]]
        assert not told, f"{what}: " + "\n".join(told)

    def picture(self, name):
        """Keep a picture, where a folder for them was given."""
        if self.options.screenshots:
            self.options.screenshots.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.options.screenshots / f"{name}.png")
