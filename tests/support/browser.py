"""Headless Chromium through its WebDriver, with the standard library alone."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


class Browser:
    """One browser window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, page: Path) -> None:
        """Load a local page."""
        _call("POST", f"{self._session}/url", {"url": page.as_uri()})

    def resize(self, width: int, height: int) -> None:
        """Set the window's size, pixels."""
        _call("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def run(self, script: str) -> Any:
        """Run the body of an async function; return its value."""
        finish = "done, error => done('failed: ' + error)"
        body = f"const done = arguments[0]; (async () => {{ {script} }})().then({finish});"
        return _call("POST", f"{self._session}/execute/async", {"script": body, "args": []})

    def console(self) -> list[str]:
        """Return what the console holds since the last call: warnings and errors."""
        entries = _call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def screenshot(self, path: Path) -> None:
        """Save the window as a PNG."""
        path.write_bytes(base64.b64decode(_call("GET", f"{self._session}/screenshot")))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile folder of its own; it is closed at the end."""
    log = profile.with_suffix(".log")
    process = subprocess.Popen(
        [str(DRIVER), "--port=0", f"--log-path={log}"], stdout=subprocess.PIPE, text=True
    )
    try:
        address = f"http://127.0.0.1:{_port(process)}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        created = _call("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{address}/session/{created['sessionId']}"
        _call("POST", f"{session}/timeouts", {"script": 60_000, "pageLoad": 60_000})
        try:
            yield Browser(session)
        finally:
            _call("DELETE", session)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def _port(process: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + 30
    while process.stdout is not None and time.monotonic() < deadline:
        line = process.stdout.readline()
        if "started successfully on port" in line:
            return int(line.rstrip(".\n").rpartition(" ")[2])
    raise RuntimeError("chromedriver: did not start within 30 s")


def _call(method: str, address: str, content: dict[str, Any] | None = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(
        address, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a machine's proxy does not know this port
    try:
        with opener.open(request, timeout=90) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(error.read().decode()[:2000]) from error
