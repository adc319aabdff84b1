"""A `percept serve` process, and what can be known of it from outside."""

import json
import pathlib
import re
import signal
import subprocess
import threading

ROOT = pathlib.Path(__file__).parents[3]
PARITY = ROOT / "tests/parity"


def small(*cases):
    """`--model` arguments for the small models of parity cases, each called like its case."""
    return [argument for case in cases for argument in ("--model", f"{case}={PARITY / case / 'model'}")]


class Service:
    """A server that is started with these arguments, and is ready when this returns."""

    def __init__(self, percept, *arguments, port=0, log=None):
        command = [percept, "serve", "--device", "cpu", "--json", "--port", str(port), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        # Requests that come while it loads have their lines before that of the address.
        lines = (json.loads(line) for line in self.process.stdout)
        ready = next((line for line in lines if line.get("ready")), None)
        if ready is None:
            raise SystemExit(f"the server ended with code {self.process.wait()} before it was ready")
        self.url = ready["url"]
        self.host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        # The log is read to its end, so that the server can go on writing it.
        threading.Thread(target=self._drain, args=(log,), daemon=True).start()

    def _drain(self, log):
        for line in self.process.stdout:
            if log:
                log.write(line)

    def memory(self, what="VmRSS"):
        """Bytes of the process: VmRSS as they are now, VmHWM at most so far."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", status).group(1)) * 1024

    def stop(self, seconds=60):
        """Asks it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def metrics(text):
    """The numbers of a document of Prometheus, each the sum over its labels."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{", 1)[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def percentile(values, share):
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
