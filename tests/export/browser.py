"""A headless browser, driven by the WebDriver protocol of its own driver."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.tools import tool

#: Keys as the protocol names them.
ESCAPE, ENTER, CONTROL, TAB = "\ue00c", "\ue007", "\ue009", "\ue004"


class Browser:
    """A session: pages are opened and asked in JavaScript, keys typed, pictures taken."""

    def __init__(self, port: int, chromium: str):
        self._at = f"http://127.0.0.1:{port}/session"
        options = {"binary": chromium, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                                "--window-size=1280,900"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}
        self._at += f"/{self._ask('', wanted)['sessionId']}"

    def open(self, path: pathlib.Path) -> None:
        self._ask("/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function gives."""
        return self._ask("/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, seconds: float = 30) -> Any:
        """The first value of an expression that counts as true."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"return {script}")):
            assert time.monotonic() < end, (script, self.messages(), self.run("return document.body.innerText.slice(0, 2000)"))
            time.sleep(0.02)
        return found

    def keys(self, *some: str, held: str = "") -> None:
        """Type keys into what has the focus, while another one is held."""
        down, up = ([{"type": f"key{way}", "value": k} for k in held] for way in ("Down", "Up"))
        pressed = [{"type": f"key{way}", "value": k} for k in "".join(some) for way in ("Down", "Up")]
        self._ask("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": [*down, *pressed, *up]}]})

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the browser's own protocol."""
        return self._ask("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def picture(self, path: pathlib.Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("/screenshot")))

    def messages(self) -> list[str]:
        """What the page has logged since it was last asked: errors among them."""
        return [entry["message"] for entry in self._ask("/se/log", {"type": "browser"})]

    def close(self) -> None:
        self._ask("", method="DELETE")

    def _ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._at + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser for the time."""
    chromium = tool("chromium")
    driver = subprocess.Popen([tool("chromedriver"), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        port = next(int(found[1]) for line in driver.stdout if (found := re.search(r"started successfully on port (\d+)", line)))
        session = Browser(port, chromium)
        try:
            yield session
        finally:
            session.close()
    finally:
        driver.terminate()
        driver.wait()
