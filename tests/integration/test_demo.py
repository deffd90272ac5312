"""fairseq-vgs demo in Chromium, whose microphone is fed from a file; no request leaves the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
import soundfile
from PIL import Image
from support.browser import CHROMIUM, DRIVER, FAKE_MICROPHONE, Browser, browser
from support.retrieval_folders import write_media_folder
from support.tiny_checkpoint import save_tiny
from support.tiny_folder import noise

pytest.importorskip("gradio", reason="no Gradio here; tests/unit/demo tests what the page shows")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here; tests/unit/demo tests what the page shows"
)
NEXT_TAB = "button[role=tab][aria-selected=false]"


class Proxy:
    """Where every request to others would go; counts them."""

    def __init__(self) -> None:
        self.n_requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self._socket.accept()[0].close()
                self.n_requests += 1


@contextlib.contextmanager
def serving(*arguments: object, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the demo; yield its address and the process."""
    command = [sys.executable, "-m", "fairseq_vgs.cli.main", "demo", *map(str, arguments), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env={**os.environ, **variables}, **pipes)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield address, process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo ü 1")
    save_tiny(folder / "model.pt", image_encoder="patches")
    write_media_folder(folder / "data")
    soundfile.write(folder / "me.wav", noise(4 * 48_000, seed=1), 48_000, subtype="PCM_16")
    soundfile.write(folder / "me.mp3", noise(44_100, seed=2), 44_100)
    Image.new("RGB", (60, 40), "red").save(folder / "photo.jpg")
    (folder / "photo.wav").write_bytes((folder / "photo.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def proxy():
    return Proxy()


@pytest.fixture(scope="module")
def address(folder, proxy):
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")
    variables = {**dict.fromkeys(names, proxy.address), "no_proxy": "", "NO_PROXY": ""}
    with serving(folder / "model.pt", folder / "data", **variables) as (found, _):
        yield found


@pytest.fixture(scope="module")
def window(folder, address) -> Iterator[Browser]:
    microphone = f"--use-file-for-fake-audio-capture={folder / 'me.wav'}"
    with browser(folder / "profile", *FAKE_MICROPHONE, microphone) as found:
        found.resize(1280, 1100)
        found.open(address)
        yield found


def number_of(window: Browser, selector: str) -> int:
    return window.run(f"return document.querySelectorAll({selector!r}).length")


def clear(window: Browser) -> None:
    window.wait("#recording button[aria-label=Clear]").click()
    window.wait("#pictures .hint")


@needs_chromium
def test_speak_and_find_pictures(window):
    assert number_of(window, "#pictures .answers") == 0
    window.wait("#recording .record-button").click()
    window.wait("#recording .stop-button")
    window.run("await new Promise(done => setTimeout(done, 1500))")
    window.wait("#recording .stop-button").click()
    window.wait("#pictures .sentence", text="The best of 7 pictures")
    assert number_of(window, "#pictures .answers button img") == 7
    assert window.run("return document.querySelector('#microphone').offsetHeight") == 0  # nothing is amiss
    window.wait("#heat .card .map")
    report = window.run("""
        const clip = document.querySelector("#heat audio"), cursor = document.querySelector("#heat .cursor");
        for (let i = 0; i < 100 && clip.readyState < 1; i++) await new Promise(done => setTimeout(done, 50));
        await clip.play();
        await new Promise(done => setTimeout(done, 400));
        clip.pause();
        const style = getComputedStyle(cursor);
        return {seconds: clip.duration, left: parseFloat(cursor.style.left), visibility: style.visibility,
                cells: document.querySelector("#heat .map img").naturalWidth};""")
    assert 1 < report["seconds"] < 5  # what the microphone heard
    assert report["cells"] == pytest.approx(10 * report["seconds"], abs=1)
    assert report["left"] > 0  # it moves while the recording plays
    assert report["visibility"] == "visible"
    clear(window)
    window.wait("#pictures .hint")


@needs_chromium
def test_another_picture_gets_its_heat_map(window):
    window.wait("#any-caption").click()
    window.wait("#pictures .sentence", text="a correct one is at rank")
    assert number_of(window, "#pictures .hit") == 1
    assert window.run("return document.title") == "Speech and pictures"  # texts of the data stay texts
    first = window.wait("#heat figcaption", text="rank 1").text
    window.run('document.querySelectorAll("#pictures button")[2].click()')
    assert window.wait("#heat figcaption", text="rank 3").text != first
    pressed = window.run(
        'return [...document.querySelectorAll("#pictures button")].map(one => one.ariaPressed)'
    )
    assert pressed == ["false", "false", "true"] + 4 * ["false"]


@needs_chromium
def test_uploads_and_a_picture_as_sound(window, folder):
    window.wait("#recording button[aria-label='Upload file']").click()
    window.upload("#recording input[type=file]", folder / "me.mp3")
    window.wait("#pictures .sentence", text="The best of 7 pictures")
    clear(window)
    window.upload("#recording input[type=file]", folder / "photo.wav")
    message = window.wait("#pictures [role=alert]", text="photo.wav: must be a recording")
    assert "Show a picture" in message.text
    assert number_of(window, "#heat .card") == 0
    clear(window)


@needs_chromium
def test_show_a_picture_and_hear_captions(window, folder):
    window.wait(NEXT_TAB, text="Show a picture").click()
    window.upload("#picture input[type=file]", folder / "photo.jpg")
    window.wait("#captions .sentence", text="The best of 14 captions")
    assert number_of(window, "#captions .heard audio") == 8
    window.run('document.querySelector("#choices button").click()')
    window.wait("#captions .sentence", text="a correct one is at rank")
    duration = window.run("""
        const clip = document.querySelector("#captions audio");
        for (let i = 0; i < 100 && clip.readyState < 1; i++) await new Promise(done => setTimeout(done, 50));
        return clip.duration;""")
    assert duration == pytest.approx(0.5)
    window.wait("#others").click()
    window.wait("#choices button[aria-pressed=false]")


@needs_chromium
def test_nothing_comes_from_or_goes_to_others(window, address, proxy):
    """After all that the tests above did."""
    asked = window.requests()
    assert len(asked) > 5
    assert [one for one in asked if not one.startswith(address)] == []
    # the picture that was given as sound is none that the browser could draw
    errors = [line for line in window.console() if "SEVERE" in line and "Waveform load error" not in line]
    assert errors == []
    assert proxy.n_requests == 0


@needs_chromium
@pytest.mark.parametrize(
    ("flags", "reason"),
    [((), "missing"), ((FAKE_MICROPHONE[0], "--deny-permission-prompts"), "denied")],
    ids=["none", "denied"],
)
def test_without_a_microphone_the_page_says_what_to_do(address, folder, flags, reason):
    with browser(folder / reason, *flags) as window:
        window.open(address)
        window.wait("#recording .record-button").click()
        assert "upload a recording" in " ".join(window.wait(f"#microphone .{reason}").text.split())
        shown = "return [...document.querySelectorAll('#microphone p')].filter(one => one.offsetHeight)"
        assert window.run(f"{shown}.map(one => one.className)") == [reason]


@pytest.mark.parametrize("path", ["/etc/passwd", "data/0.png", "data/../model.pt"])
def test_other_files_are_not_served(address, folder, path):
    wanted = path if path.startswith("/") else f"{folder}/{path}"
    for part in ("gradio_api/file=", "file="):
        with pytest.raises(urllib.error.HTTPError) as caught:
            open_directly(address + part + urllib.parse.quote(wanted))
        assert caught.value.code in (403, 404)


def open_directly(address: str) -> None:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_in_one_line(folder, number, status):
    with serving(folder / "model.pt", folder / "data") as (_, process):
        while "Ctrl-C" not in process.stderr.readline():
            pass
        process.send_signal(number)
        _, printed = process.communicate(timeout=30)
        assert process.returncode == status
        assert len(printed.splitlines()) == 1
