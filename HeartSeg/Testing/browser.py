"""A headless Chromium for tests of pages, through its DevTools protocol; it resolves no host but this one."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from command_lines import PATIENCE

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CODES = {"ArrowDown": 40, "ArrowUp": 38, "Escape": 27, "Enter": 13}


def chromium() -> str | None:
    """Path of the browser, ``None`` if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """Context manager of one page.

    Args:
        width, height: size of the window, pixels.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        self.downloads = Path(self._folder.name) / "downloads"
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self._size = width, height
        self.messages: list[str] = []

    def __enter__(self) -> Browser:
        from tornado.websocket import websocket_connect

        program = chromium()
        assert program is not None
        width, height = self._size
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL in software
        options += [
            "--remote-debugging-port=0",
            "--remote-debugging-address=127.0.0.1",
            "--disable-background-networking",
        ]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-allow-origins=*"]
        options += [f"--window-size={width},{height}", f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (page,) = [p for p in json.load(answer) if p["type"] == "page"]
        self._socket = self._loop.run_until_complete(self._connected(websocket_connect, page["webSocketDebuggerUrl"]))
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return self

    @staticmethod
    async def _connected(connect: Any, url: str) -> Any:
        return await connect(url, max_message_size=1 << 28)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()
        self._loop.close()
        self._folder.cleanup()

    def _port(self) -> int:
        file = Path(self._folder.name) / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if file.exists() and (text := file.read_text()).count("\n"):
                return int(text.split("\n")[0])
            time.sleep(0.05)
        raise AssertionError("the browser did not start")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; notes what the page logs."""
        self._number += 1
        return self._loop.run_until_complete(self._answer(self._number, method, parameters))

    async def _answer(self, number: int, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            text = await asyncio.wait_for(self._socket.read_message(), PATIENCE)
            assert text is not None, "the browser has gone"
            message = json.loads(text)
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.messages.append(json.dumps(message["params"])[:400])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, address: str) -> None:
        """Open a page and wait until its own script says that it is ready."""
        self.call("Page.navigate", url=address)
        self.until("document.body && document.body.dataset.ready === 'yes'")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression, JSON-ready."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = _CODES.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Type text into the focused element."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, whole: bool = False) -> None:
        """Write a screenshot, of the window or of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
