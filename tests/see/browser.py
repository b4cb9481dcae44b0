"""A browser without a window, driven by its debugging protocol over a pipe: keys, sizes, themes, what it says.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the page is not drawn")
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync hide-scrollbars remote-debugging-pipe disable-dev-shm-usage"
)
CODES = {" ": ("Space", 32), "Escape": ("Escape", 27), "ArrowLeft": ("ArrowLeft", 37), "ArrowRight": ("ArrowRight", 39)}


class Browser:
    """One page in it. said: what was written to its console, errors and refusals of the content policy included."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out
        self._rest = b""
        self._number = 0
        self.said: list[str] = []
        self.asked: list[str] = []  # addresses
        target = self._call("Target.createTarget", url="about:blank", session="")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True, session="")["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._into, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._out], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            data = os.read(self._out, 1 << 20)
            assert data, "the browser has gone"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        match message.get("method"):
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.said.append(json.dumps(message["params"]))
            case "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return message

    def size(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the page in CSS pixels, and what the system says of colours."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def open(self, page: Path) -> None:
        """Open a page of run.html, and wait until all of its rows are there."""
        self._call("Page.navigate", url=f"file://{page}")
        helpers.eventually(lambda: self.ask("document.documentElement?.dataset.ready === 'yes'"), timeout=60)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def key(self, key: str) -> None:
        """Press a key."""
        code, number = CODES.get(key, (key, ord(key[0])))
        text = key if len(key) == 1 else ""
        common: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def point_at(self, selector: str) -> None:
        """Move the mouse to the middle of an element."""
        box = self.ask(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({_box(selector)})")
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def picture(self, path: Path) -> None:
        """Write a picture of what is seen, PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))


def _box(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start one; it ends with the `with`."""
    # A short name: the browser binds sockets in there.
    with tempfile.TemporaryDirectory(prefix="page", dir="/tmp", ignore_cleanup_errors=True) as place:
        command = [CHROMIUM, *(f"--{flag}" for flag in FLAGS.split()), f"--user-data-dir={place}/profile"]
        their_in, into = os.pipe()
        out, their_out = os.pipe()

        def descriptors() -> None:
            # 3 and 4 are what the browser looks for; one of ours may have one of these numbers.
            first, second = os.dup2(their_in, 200), os.dup2(their_out, 201)
            os.dup2(first, 3)
            os.dup2(second, 4)

        process = subprocess.Popen(
            command,
            preexec_fn=descriptors,
            close_fds=False,
            env=os.environ | {"HOME": place, "TMPDIR": place},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(their_in)
        os.close(their_out)
        try:
            yield Browser(into, out)
        finally:
            os.close(into)
            os.close(out)
            try:
                process.wait(10)  # the end of its pipe is the end of it
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
