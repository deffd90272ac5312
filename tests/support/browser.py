"""Headless Chromium, driven by Selenium; nothing is downloaded."""

from __future__ import annotations

import contextlib
import json
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


FAKE_MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


class Browser:
    """One browser window."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, page: Path | str) -> None:
        """Load a local page, or an address."""
        self._driver.get(page if isinstance(page, str) else page.as_uri())

    def wait(self, selector: str, *, text: str = "", seconds: float = 30) -> Any:
        """Wait for a visible element that holds a text; return it."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        def find(driver: Any) -> Any:
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                with contextlib.suppress(StaleElementReferenceException):
                    if element.is_displayed() and text in element.text:
                        return element
            return None

        try:
            return WebDriverWait(self._driver, seconds, poll_frequency=0.1).until(find)
        except TimeoutException:
            shown = self.run("return document.body.innerText")
            raise AssertionError(
                f"no {selector} with {text!r} in {seconds} s; the page says: {shown}"
            ) from None

    def upload(self, selector: str, path: Path) -> None:
        """Give a file to an input, which need not be visible."""
        from selenium.webdriver.common.by import By

        self._driver.find_element(By.CSS_SELECTOR, selector).send_keys(str(path))

    def requests(self) -> set[str]:
        """Return the addresses that were asked for, of the network, since the last call."""
        messages = (json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance"))
        asked = {
            message["params"].get("request", message["params"]).get("url", "")
            for message in messages
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        }
        return {address for address in asked if not address.startswith(("data:", "blob:", "chrome"))}

    def picture(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        self._driver.save_screenshot(str(path))

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
def browser(profile: Path, *flags: str) -> Iterator[Browser]:
    """Start a browser with a profile folder of its own and further flags; it is closed at the end."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    # the driver is the machine's, and a proxy does not know its port
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true", no_proxy="localhost,127.0.0.1")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(DRIVER, log_output=str(profile.with_suffix(".log"))))
    try:
        driver.set_script_timeout(60)
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()
