"""A real browser for tests of pages: Debian's chromium, driven over the DevTools pipe."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any


class Browser:
    """A headless chromium with one page, spoken to in the DevTools protocol over a pipe (descriptors 3 and 4)."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()  # (read, write): what we write it reads, and the other way round
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        script = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(ours[0], theirs[1]), stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its answer; events that come in between are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._from.fileno(), 1 << 16)
            assert data, "the browser ended"
            self._rest += data
        text, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(text))

    def open(self, place: Path, width: int, height: int = 900) -> None:
        """Show a file in a window of that size and wait until it is loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._load("Page.navigate", url=place.as_uri())

    def reload(self) -> None:
        """Load the page again from its present address."""
        self._load("Page.reload")

    def _load(self, method: str, **parameters: Any) -> None:
        self.events.clear()
        self.send(method, **parameters)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, text: str = "", ctrl: bool = False) -> None:
        """Press and release a key, as a keyboard does."""
        codes = {"Enter": 13, " ": 32, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            parameters = {"type": kind, "key": key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 2 * ctrl}
            self.send("Input.dispatchKeyEvent", **parameters | ({"text": text} if text and kind == "keyDown" else {}))

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        place = self.run(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move the mouse, or press or release it: "Moved", "Pressed", "Released"."""
        button = {"button": "left", "buttons": 1, "clickCount": 1} if kind != "Moved" else {}
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, move it along the others, release it at the last."""
        self.mouse("Moved", *places[0])
        self.mouse("Pressed", *places[0])
        for place in places[1:]:
            self.mouse("Moved", *place)
        self.mouse("Released", *places[-1])

    def wait_for(self, file: Path) -> None:
        """Wait until a file has been downloaded."""
        end = time.monotonic() + 20
        while not file.is_file():
            assert time.monotonic() < end, f"{file} was not saved"
            time.sleep(0.02)

    def problems(self) -> list[str]:
        """Console errors and warnings, exceptions, and requests to anywhere but the file itself."""
        found = [
            json.dumps(event["params"])
            for event in self.events
            if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        ]
        requests = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        places = [event["params"]["request"]["url"] for event in requests]
        return found + [place for place in places if not place.startswith(("data:", "file:"))]

    def close(self) -> None:
        self.send("Browser.close")
        self._process.wait(timeout=20)
        self._to.close()
        self._from.close()


def chromium() -> str | None:
    """A chromium that starts: the package of that name is on Ubuntu a note that one is to be had as a snap."""
    for name in ("chromium", "chromium-browser"):
        program = shutil.which(name)
        if program and subprocess.run([program, "--version"], capture_output=True).returncode == 0:
            return program
    return None
