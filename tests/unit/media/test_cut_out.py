from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_stamps import write_picture

from fairseq_vgs.media import cut_out as module
from fairseq_vgs.media.cut_out import can_render_svg, fit_inside, read_cut_out
from fairseq_vgs.media.errors import MediumError

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10"/></svg>'


@contextmanager
def refused(*codes: str) -> Iterator[None]:
    with pytest.raises(MediumError) as caught:
        yield
    assert caught.value.code in codes


def test_transparent_pixels_become_white_and_the_frame_is_cut(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 4), dtype=np.uint8)
    pixels[4:10, 6:26] = (10, 20, 30, 255)
    pixels[5, 7, 3] = 0  # a hole; its colour must not show
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    found = np.asarray(read_cut_out(tmp_path / "a.png", 160))
    assert found.shape == (6, 20, 3)
    assert tuple(found[0, 0]) == (10, 20, 30)
    assert tuple(found[1, 1]) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "1"])
def test_other_modes_are_read(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (8, 6), (10, 20, 30)).convert(mode).save(tmp_path / "a.png")
    found = read_cut_out(tmp_path / "a.png", 160)
    assert (found.mode, found.size) == ("RGB", (8, 6))


def test_large_pictures_shrink_and_small_ones_stay(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", size=(110, 60))
    assert read_cut_out(tmp_path / "a.png", 50).size == (50, 25)
    assert read_cut_out(tmp_path / "a.png", 500).size == (100, 50)


def test_thin_pictures_keep_a_pixel() -> None:
    assert fit_inside(Image.new("RGB", (1000, 2)), 10).size == (10, 1)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(20), b"hello"])
def test_broken_pictures_have_a_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with refused("picture.unreadable", "file.empty"):
        read_cut_out(tmp_path / "a.png", 160)


@pytest.mark.parametrize("colour", [(255, 255, 255, 255), (0, 0, 0, 0), (250, 250, 250, 255)])
def test_pictures_that_show_nothing_on_white_have_a_reason(
    tmp_path: Path, colour: tuple[int, int, int, int]
) -> None:
    Image.new("RGBA", (8, 6), colour).save(tmp_path / "a.png")
    with refused("picture.invisible"):
        read_cut_out(tmp_path / "a.png", 160)


def test_a_format_that_other_programs_would_decode_has_a_reason(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png", format="EPS")
    with refused("picture.unreadable", "file.empty"):
        read_cut_out(tmp_path / "a.png", 160)


@pytest.mark.skipif(not can_render_svg(), reason="rsvg-convert is not installed")
def test_svg_is_rendered_at_the_wanted_size(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text(SVG)
    assert read_cut_out(tmp_path / "a.svg", 100).size == (100, 50)
    (tmp_path / "b.svg").write_text("<svg")
    with refused("picture.unreadable", "file.empty"):
        read_cut_out(tmp_path / "b.svg", 100)


def test_hanging_svg_renderer_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(module.subprocess, "run", hang)
    with refused("picture.unreadable", "file.empty"):
        read_cut_out(tmp_path / "a.svg", 100)
