"""Headless Chromium, driven by Selenium; nothing is downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
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

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, page: Path) -> None:
        """Load a local page."""
        self._driver.get(page.as_uri())

    def resize(self, width: int, height: int) -> None:
        """Set the window's size in pixels."""
        self._driver.set_window_size(width, height)

    def run(self, script: str) -> Any:
        """Run the body of an async function; return its value."""
        finish = "done, error => done('failed: ' + error)"
        return self._driver.execute_async_script(
            f"const done = arguments[0]; (async () => {{ {script} }})().then({finish});"
        )

    def console(self) -> list[str]:
        """Return the warnings and errors in the console since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._driver.get_log("browser")]


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile folder of its own; it is closed at the end."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    # the driver is the machine's, and a proxy does not know its port
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true", no_proxy="localhost,127.0.0.1")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER, log_output=str(profile.with_suffix(".log"))))
    try:
        driver.set_script_timeout(60)
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()
