"""What the page promises. A check gets a fresh browser and fails by an exception."""

import base64
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request
import wave

from session import IMAGE, ROOT

QUESTION = "What is in this picture?"


def image_of(body):
    """The bytes of the only image of a request."""
    urls = [p["image_url"]["url"] for m in body["messages"] for p in m["content"] if p["type"] == "image_url"]
    assert len(urls) == 1, urls
    head, data = urls[0].split(",")
    assert head == "data:image/png;base64", head
    return base64.b64decode(data)


def from_the_top(page):
    """Let the next Tab begin at the top of the page."""
    page.evaluate("() => { document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); }")


def the_models_of_the_server_are_offered(s):
    page = s.open()
    request = urllib.request.Request(s.server + "/v1/models")
    if s.options.key:
        request.add_header("Authorization", f"Bearer {s.options.key}")
    served = json.load(urllib.request.urlopen(request))["data"]
    talking = [m["id"] for m in served if m.get("task", "generate") == "generate"]
    assert [option.get_attribute("value") for option in page.locator("#model option").all()] == talking


def what_a_model_does_not_take_is_not_sent(s):
    models = [{"id": "mute", "task": "embed"}, {"id": "blind", "task": "generate", "input_modalities": ["text"]}]
    models += [{"id": "adapted", "task": "generate", "input_modalities": ["text", "image"], "parent": "blind"}]
    s.page.route("**/v1/models", lambda route: route.fulfill(json={"object": "list", "data": models}))
    s.page.goto(s.server + "/")
    s.page.wait_for_selector("#model option", state="attached")
    assert s.page.locator("#model option").all_text_contents() == ["blind", "adapted (adapter of blind)"]
    s.replies("Seen.")
    s.drop()
    s.send(QUESTION)
    assert "blind takes no image: remove a7.png" in s.page.locator("#toast").text_content()
    assert not s.bodies and s.page.input_value("#prompt") == QUESTION
    s.page.select_option("#model", "adapted")
    s.ask(QUESTION)
    assert s.bodies[-1]["model"] == "adapted"


def a_dropped_image_is_asked_about_and_the_answer_streams(s):
    page = s.open()
    s.drop()
    s.slowly(3000)
    s.send(QUESTION)
    page.wait_for_selector('.answer[aria-busy="true"]')
    s.picture("streaming")
    lengths = set()
    while page.locator("#stop").is_visible():
        lengths.add(len(s.answer()))
        page.wait_for_timeout(40)
    assert len(lengths) >= 4, f"the answer came in the steps {sorted(lengths)}"
    s.wait()
    body = s.bodies[-1]
    assert body["stream"] and body["stream_options"] == {"include_usage": True}, body
    assert image_of(body) == IMAGE.read_bytes()
    assert body["messages"][-1]["content"][-1] == {"type": "text", "text": QUESTION}
    for told in ["tokens/s", "first after", "given", "1 image"]:
        assert told in s.stats(), s.stats()
    assert page.evaluate("document.querySelector('.turn img').naturalWidth") > 0
    spoken = page.locator("#spoken").text_content()
    assert spoken.startswith("Answering") and spoken.endswith("The answer is whole"), spoken
    s.picture("answered")


def an_answer_is_stopped_and_what_came_of_it_stays(s):
    page = s.open()
    s.slowly(2000)
    for stop in [lambda: page.click("#stop"), lambda: page.keyboard.press("Escape")]:
        s.send("Go on for long")
        page.wait_for_function("() => [...document.querySelectorAll('.answer .text')].at(-1)?.textContent.length > 3")
        stop()
        s.wait()
        assert "stopped" in s.stats(), s.stats()
        so_far = s.answer()
        assert so_far
        page.wait_for_timeout(700)
        assert s.answer() == so_far
    assert page.evaluate("document.activeElement.id") == "prompt"


def an_earlier_message_is_changed_and_sent_again(s):
    page = s.open()
    s.drop()
    s.ask(QUESTION)
    s.ask("And then?")
    assert len(s.bodies[-1]["messages"]) == 3
    page.locator(".user").first.get_by_label("Change and send again").click()
    assert page.input_value("#prompt") == QUESTION
    assert page.locator("#attached li").count() == 1
    assert page.locator(".turn.later").count() == 4
    page.fill("#prompt", "Is it red?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.turn').length === 2")
    s.wait()
    [message] = s.bodies[-1]["messages"]
    assert message["content"][-1]["text"] == "Is it red?"
    assert image_of(s.bodies[-1]) == IMAGE.read_bytes()
    # Escape leaves the message as it is.
    page.get_by_label("Change and send again").click()
    page.keyboard.press("Escape")
    assert page.input_value("#prompt") == "" and page.locator(".turn.later").count() == 0


def an_answer_is_given_again(s):
    page = s.open()
    s.ask("Hello")
    page.get_by_label("Answer again").click()
    page.wait_for_function("() => document.querySelector('.answer[aria-busy=\"false\"] .stats')")
    s.wait()
    assert page.locator(".turn").count() == 2
    assert len(s.bodies) == 2 and s.bodies[0] == s.bodies[1]


def a_reload_keeps_the_conversation(s):
    page = s.open()
    s.drop()
    s.ask(QUESTION)
    texts, stats = s.texts(), s.stats()
    page.wait_for_timeout(300)
    page.reload()
    page.wait_for_selector(".turn.answer")
    assert s.texts() == texts and s.stats() == stats
    page.wait_for_function("() => document.querySelector('.turn img').naturalWidth > 0")
    s.ask("And then?")
    assert image_of({"messages": s.bodies[-1]["messages"][:1]}) == IMAGE.read_bytes()
    assert s.bodies[-1]["max_completion_tokens"] == s.options.tokens


def settings_reach_the_request_and_wrong_ones_do_not(s):
    page = s.open(temperature="0.5", top_p="0.9", top_k="20", min_p="0.05", seed="7", system="Be brief.")
    s.ask("Hello")
    body = s.bodies[-1]
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "seed": 7}
    assert {k: body.get(k) for k in wanted} == wanted, body
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    page.click("#open-settings")
    page.fill("#temperature", "9")
    page.keyboard.press("Tab")
    assert "Temperature: it must be from 0 to 2" in page.locator("#wrong").text_content()
    page.click("#clear-sampling")
    page.keyboard.press("Escape")
    s.ask("Hello again")
    assert not set(wanted) & set(s.bodies[-1]), s.bodies[-1]


def an_api_key_is_sent_and_kept_nowhere_else(s):
    page = s.open()
    s.replies("Hello.")
    s.set(key="sk-secret")
    s.ask("Hello")
    assert s.keys[-1] == "Bearer sk-secret"
    kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert json.loads(kept)[1] == {"percept.key": "sk-secret"} and "sk-secret" not in json.dumps(json.loads(kept)[0])
    page.click("#more")
    page.click("#show-request")
    for form in ["#as-python", "#as-curl"]:
        page.click(form)
        page.wait_for_selector(f"{form}[aria-pressed=true]")
        text = page.locator("#request-text").text_content()
        assert "OPENAI_API_KEY" in text and "sk-secret" not in text, text


def errors_say_what_to_do(s):
    page = s.open()
    error = json.dumps({"error": {"message": "the queue is full"}})
    cases = [
        (429, {"retry-after": "3"}, error, ["Try again in 3 s", "the queue is full"], "Try again"),
        (401, {}, error, ["API key"], "Enter the key"),
        (413, {}, "<html>", ["Attach less"], None),
        (400, {}, json.dumps({"error": {"message": "this model takes no audio"}}), ["this model takes no audio"], "Try again"),
        (500, {}, "", ["Its log says more"], "Try again"),
        (200, {"content-type": "text/event-stream"}, "data: {\"choices\":[]}\n\n", ["ended before the answer was whole"], "Try again"),
        (200, {"content-type": "text/event-stream"}, "data: nothing\n\n", ["no JSON"], "Try again"),
        (200, {"content-type": "text/event-stream"}, f"data: {error}\n\n", ["broke off", "the queue is full"], "Try again"),
    ]
    for status, headers, body, told, button in cases:
        s.replies(status=status, headers=headers, body=body)
        s.ask("Hello")
        said = page.locator(".failed").last.text_content()
        assert all(word in said for word in told), (status, said)
        assert (page.locator(".failed").last.get_by_role("button").all_text_contents() or [None])[0] == button
    page.route("**/v1/chat/completions", lambda route: route.abort())
    s.ask("Hello")
    assert "cannot be reached" in page.locator(".failed").last.text_content()
    s.axe("an error")
    # What failed is no turn of the next request, and trying again takes the place of the failure.
    s.replies("There.")
    turns = page.locator(".turn").count()
    page.locator(".failed").last.get_by_role("button", name="Try again").click()
    page.wait_for_function("() => [...document.querySelectorAll('.answer .text')].at(-1).textContent === 'There.'")
    s.wait()
    assert page.locator(".turn").count() == turns
    assert {m["role"] for m in s.bodies[-1]["messages"]} == {"user"}


def what_a_model_writes_is_shown_and_never_run(s):
    page = s.open()
    s.replies(
        "# Title\n\nA **bold** and *slanted* word, `<b>code</b>`, [a link](https://example.org/a_(b)) and snake_case_name.\n\n"
        "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>\n\n"
        "[no](javascript:alert(1)) [nor](data:text/html,x) ![an image](https://example.org/x.png)\n\n"
        "3. three\n4. four\n   - within\n\n> quoted\n\n```js\nif (a < b) { }\n```\n\n| a | b |\n|--|:-:|\n| 1 | 2 |\n\n---\n"
        "unclosed **bold and `code"
    )
    s.ask("Hello")
    prose = page.locator(".answer .text")
    assert prose.locator("h3").text_content() == "Title"
    assert prose.locator("strong").all_text_contents() == ["bold"]
    assert prose.locator("em").all_text_contents() == ["slanted"]
    assert prose.locator("p code").all_text_contents() == ["<b>code</b>"]
    links = prose.locator("a")
    assert [a.get_attribute("href") for a in links.all()] == ["https://example.org/a_(b)", "https://example.org/x.png"]
    assert all(a.get_attribute("rel") == "noopener noreferrer" for a in links.all())
    assert prose.locator("img, script").count() == 0
    assert "onerror=" in prose.text_content() and "[no](javascript:alert(1))" in prose.text_content()
    assert prose.locator("ol").get_attribute("start") == "3"
    assert prose.locator("ol > li > ul > li").all_text_contents() == ["within"]
    assert prose.locator("blockquote").text_content() == "quoted"
    assert prose.locator(".code pre").text_content() == "if (a < b) { }"
    assert prose.locator("td").all_text_contents() == ["1", "2"]
    assert prose.locator("hr").count() == 1 and "unclosed **bold and `code" in prose.text_content()
    assert "run" not in page.title()
    prose.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "if (a < b) { }"
    assert "given 5 tokens (3 from the cache)" in s.stats(), s.stats()


def a_request_is_copied_as_curl_and_as_python_and_both_run(s):
    page = s.open(temperature="0", top_k="3", system="Cost: $5 `now` \\ \"quoted\" 'too'")
    name = "it's \"the\" $(one) `here`.png"
    s.drop(name=name)
    s.ask(QUESTION)
    page.click("#more")
    page.click("#show-request")
    texts = {}
    for form in ["curl", "python"]:
        page.click(f"#as-{form}")
        page.wait_for_selector(f"#as-{form}[aria-pressed=true]")
        page.wait_for_timeout(200)
        texts[form] = page.locator("#request-text").text_content()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / name).write_bytes(IMAGE.read_bytes())
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "OPENAI_API_KEY": s.options.key or "none"}
        run = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 300}
        # What the shell makes of the text is what the page sent, apart from space.
        told = "cat <<JSON" + texts["curl"].split("<<JSON", 1)[1]
        sent = subprocess.run(["bash", "-c", told], **run)
        assert json.loads(sent.stdout) == s.bodies[-1], sent.stdout + sent.stderr
        done = subprocess.run(["bash", "-c", texts["curl"]], **run)
        assert done.returncode == 0 and "data: [DONE]" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
        done = subprocess.run([sys.executable, "-c", texts["python"]], **run)
        assert done.returncode == 0 and done.stdout.strip(), done.stdout[-2000:] + done.stderr[-2000:]
    page.click("#copy-request")
    page.wait_for_function("() => document.getElementById('toast').textContent === 'Copied'")
    s.axe("the request")


def the_microphone_is_recorded_as_pcm(s):
    s.any_media()
    page = s.open()
    s.replies("Heard.")
    page.click("#record")
    page.wait_for_function("() => document.getElementById('recorded').textContent === '0:02'")
    s.picture("recording")
    s.axe("a recording")
    page.click("#keep-recording")
    page.wait_for_selector("#attached li")
    s.ask("What do you hear?")
    part = s.bodies[-1]["messages"][-1]["content"][0]
    assert part["type"] == "input_audio" and part["input_audio"]["format"] == "wav", part
    with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"]))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert 1.9 < file.getnframes() / file.getframerate() < 4
        assert any(file.readframes(file.getnframes())), "there is no sound"
    assert "1 audio clip" in s.stats()


def media_go_along_in_the_parts_of_the_api(s):
    s.any_media()
    page = s.open()
    s.replies("Seen.")
    clip, speech = ROOT / "tests/parity/media/k24.mkv", ROOT / "tests/speech/0870.flac"
    # Where the browser knows no type, the name tells it.
    s.drop(clip, kind="")
    s.drop(speech, kind="audio/flac")
    s.ask("And these?")
    video, audio, _ = s.bodies[-1]["messages"][-1]["content"]
    data = base64.b64encode(clip.read_bytes()).decode()
    assert video == {"type": "video_url", "video_url": {"url": f"data:video/x-matroska;base64,{data}"}}
    assert audio["input_audio"] == {"format": "flac", "data": base64.b64encode(speech.read_bytes()).decode()}
    page.set_input_files("#files", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x"})
    assert "notes.txt" in page.locator("#toast").text_content()
    assert page.locator("#attached li").count() == 0


def conversations_are_exported_deleted_renamed_and_imported(s):
    page = s.open()
    s.drop()
    s.ask(QUESTION)
    texts = s.texts()
    page.click("#more")
    page.click("#rename")
    page.fill("#ask-value", "A red square")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('title').textContent === 'A red square'")
    with page.expect_download() as download:
        page.click("#export-all")
    exported = pathlib.Path(download.value.path()).read_bytes()
    page.click("#more")
    page.click("#delete")
    page.click("#ask-yes")
    page.wait_for_function("() => document.querySelectorAll('#conversations li').length === 0")
    assert "0 bytes" in page.locator("#used").text_content()
    page.set_input_files("#import-file", {"name": "e.json", "mimeType": "application/json", "buffer": exported})
    page.wait_for_selector(".turn.answer")
    assert s.texts() == texts and page.locator("#title").text_content() == "A red square"
    page.wait_for_function("() => document.querySelector('.turn img').naturalWidth > 0")
    for wrong, told in [(b"{", "no JSON"), (b"{}", "no export"), (exported.replace(b'"role": "user"', b'"role": "x"'), "message 1")]:
        page.set_input_files("#import-file", {"name": "w.json", "mimeType": "application/json", "buffer": wrong})
        page.wait_for_function("told => document.getElementById('notice').textContent.includes(told)", arg=told)


def a_full_store_says_so_and_the_conversation_goes_on(s):
    def smaller(route):
        response = route.fetch()
        text = response.text()
        assert "LIMIT = 256_000_000" in text
        route.fulfill(response=response, body=text.replace("LIMIT = 256_000_000", "LIMIT = 20_000"))

    s.page.route("**/store.js", smaller)
    page = s.open()
    s.replies("Seen.")
    s.ask("Hello")
    assert page.locator("#notice").is_hidden()
    s.drop()
    s.ask(QUESTION)
    assert "is not kept" in page.locator("#notice").text_content() and "20 kB" in page.locator("#notice").text_content()
    assert image_of({"messages": s.bodies[-1]["messages"][-1:]}) == IMAGE.read_bytes()


def light_and_dark_follow_the_system_and_the_switch(s):
    page = s.open()
    s.ask("Hello")
    ground = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"
    for scheme in ["light", "dark"]:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        assert (page.evaluate(ground) < 60) == (scheme == "dark")
        s.axe(scheme)
        s.picture(f"conversation-{scheme}")
    page.click("#theme")  # light, though the system is dark
    assert page.evaluate(ground) > 200
    page.reload()
    page.wait_for_selector(".turn.answer")
    assert page.evaluate(ground) > 200, "the choice is not kept"


def narrow_and_wide_pages_hold_everything(s):
    page = s.open()
    s.replies("A `" + "long" * 60 + "` word " + "w" * 300 + "\n\n```\n" + "x" * 300 + "\n```\n\n|" + " cell |" * 30 + "\n|" + "--|" * 30 + "\n|" + " 1 |" * 30)
    s.drop(name="n" * 120 + ".png")
    s.ask("u" * 300)
    s.drop(name="n" * 120 + ".png")
    for width in [320, 400, 768, 1280, 2560]:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(250)
        wide = page.evaluate("""() => [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility()
            && !e.closest('pre, .table, #sidebar, .hidden, .skip') && e.getBoundingClientRect().right > innerWidth + 1)
            .map((e) => `${e.tagName} ${e.id} ${e.className}`)""")
        assert not wide, (width, wide)
        s.picture(f"width-{width}")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(250)
    s.axe("400 px")
    page.click("#open-sidebar")
    page.wait_for_timeout(400)
    assert page.evaluate("document.activeElement.id") == "close-sidebar"
    s.axe("the list at 400 px")
    s.picture("list-400")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "open-sidebar"


def everything_is_reached_by_keyboard(s):
    page = s.open()
    s.axe("an empty page")
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    from_the_top(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    s.replies("There.")
    s.ask("Hello")
    from_the_top(page)
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.tagName"))
        outlined = page.evaluate("(e => getComputedStyle(e).outlineStyle !== 'none' || e.id === 'prompt' || e === document.body)(document.activeElement)")
        assert outlined, f"the focus is not seen on {seen[-1]}"
    order = ["new", "import", "theme", "model", "open-settings", "more", "Change and send again", "Answer again", "prompt", "attach", "record", "send"]
    places = [seen.index(name) for name in order]
    assert places == sorted(places), seen
    page.focus("#more")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "rename"
    s.axe("the menu")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "more" and page.locator("#more-list").is_hidden()
    page.click("#open-settings")
    page.wait_for_timeout(200)
    s.axe("the settings")
    s.picture("settings")


def two_conversations_are_answered_at_once(s):
    page = s.open()
    s.slowly(6000)
    s.send("First")
    page.wait_for_function("() => document.querySelector('.answer .text')?.textContent.length > 0")
    page.click("#new")
    s.send("Second")
    page.wait_for_selector("#conversations .busy >> nth=1")
    page.locator("#conversations button", has_text="First").click()
    page.wait_for_function("() => document.querySelector('.user .text').textContent === 'First'")
    page.wait_for_function("() => document.querySelectorAll('#conversations .busy').length === 0")
    s.wait()
    assert "tokens" in s.stats()
    page.locator("#conversations button", has_text="Second").click()
    page.wait_for_function("() => document.querySelector('.user .text').textContent === 'Second'")
    assert "tokens" in s.stats()


ALL = [
    the_models_of_the_server_are_offered,
    what_a_model_does_not_take_is_not_sent,
    a_dropped_image_is_asked_about_and_the_answer_streams,
    an_answer_is_stopped_and_what_came_of_it_stays,
    an_earlier_message_is_changed_and_sent_again,
    an_answer_is_given_again,
    a_reload_keeps_the_conversation,
    settings_reach_the_request_and_wrong_ones_do_not,
    an_api_key_is_sent_and_kept_nowhere_else,
    errors_say_what_to_do,
    what_a_model_writes_is_shown_and_never_run,
    a_request_is_copied_as_curl_and_as_python_and_both_run,
    the_microphone_is_recorded_as_pcm,
    media_go_along_in_the_parts_of_the_api,
    conversations_are_exported_deleted_renamed_and_imported,
    a_full_store_says_so_and_the_conversation_goes_on,
    light_and_dark_follow_the_system_and_the_switch,
    narrow_and_wide_pages_hold_everything,
    everything_is_reached_by_keyboard,
    two_conversations_are_answered_at_once,
]
