"""A page in a real headless Chromium, driven by the DevTools protocol: what a person would see, press and click.

Tests that use it skip, with the reason, where no Chromium or Chrome is installed (Debian: apt-get install chromium).
"""

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless=new", "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--mute-audio", "--no-proxy-server", "--remote-debugging-port=0"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a graphics card
)
PATIENCE_S = 60
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and importlib.util.find_spec("websocket")), reason="needs chromium and websocket-client, one is not installed"
)
KEYS = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13}
"""named keys and their codes; any other key is a letter"""


class Page:
    """One tab; `opened` makes it."""

    def __init__(self, address: str) -> None:
        from websocket import create_connection

        self._socket = create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
        self._number = 0
        self.errors: list[str] = []
        """exceptions, errors in the console and in the log (a refused request, a broken security policy) until now"""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._socket.close()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and what it answers."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        of = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = of["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and of["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in of["args"]))
        elif message.get("method") == "Log.entryAdded" and of["entry"]["level"] == "error":
            self.errors.append(f"{of['entry']['text']} {of['entry'].get('url', '')}")

    def show(self, url: str, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Open an address in a window of this size, in the light or the dark look; wait until it is loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression, that of a promise when it is kept."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer.get('exceptionDetails')}"
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = PATIENCE_S) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; errors: {self.errors}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """A key: one of KEYS, or a letter."""
        code = KEYS.get(key, ord(key.upper()[0]))
        of_key = {"key": key, "code": key if key in KEYS else f"Key{key.upper()}", "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **of_key, **({} if key in KEYS else {"text": key}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **of_key)

    def click(self, selector: str) -> None:
        """Click in the middle of the first element that matches."""
        found = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1)

    def wheel(self, x: float, y: float, down: float) -> None:
        """Turn the wheel over a place."""
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    def picture(self, path: Path, whole: bool = False) -> Path:
        """The window, or the `whole` page, as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    @property
    def overflow(self) -> int:
        """By how many px the page is wider than its window; 0 where nothing has to be scrolled sideways."""
        return self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """A tab of a new browser with a profile of its own; both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="hemoct-browser-", ignore_cleanup_errors=True) as profile:
        root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            page = Page(_address(Path(profile) / "DevToolsActivePort", process))
            try:
                yield page
            finally:
                with contextlib.suppress(Exception):
                    page.send("Browser.close")
                page.close()
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            process.wait()


def _address(told: Path, process: subprocess.Popen) -> str:
    """The address of the first tab, as soon as the browser tells it."""
    import urllib.request

    end = time.monotonic() + PATIENCE_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy must not stand in between
    while time.monotonic() < end and process.poll() is None:
        lines = told.read_text().splitlines() if told.exists() else []
        if len(lines) == 2:
            tabs = json.load(direct.open(f"http://127.0.0.1:{lines[0]}/json/list", timeout=PATIENCE_S))
            pages = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
            if pages:
                return pages[0]
        time.sleep(0.05)
    pytest.fail(f"{CHROMIUM} does not start")
