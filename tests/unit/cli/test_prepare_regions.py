from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.region_files import lxmert_fields, write_lxmert

from fairseq_vgs.cli.main import main
from fairseq_vgs.interop import regions_efficientnet
from fairseq_vgs.manifest import ImageRow, write_images


def make_tsv(path: Path) -> str:
    boxes = [(0, 0, 8, 4), (-2, 0, 4, 4), (5, 1, 5, 2)]
    lines = [lxmert_fields(name, size=(8, 4), boxes=boxes, features=[(1.0, 2049.0)] * 3) for name in "ab"]
    return str(write_lxmert(path, lines))


def test_lxmert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", "regions", "lxmert", make_tsv(tmp_path / "x.tsv"), str(tmp_path / "data")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "4 regions of 2 images, 2 dims",
        "  float16: at most 1 off, 0.000488 of a value (largest 2049)",
        "  2 boxes clipped, by up to 2 pixels",
        "  2 regions left out whose box has no area",
    ]
    assert captured.err == f"written to {tmp_path / 'data'}\n"
    assert main(command) == 1
    assert "already exists; pass --force" in capsys.readouterr().err
    assert main([*command, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 4


def test_faults_are_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a\t1\nb\n")
    command = ["prepare", "regions", "lxmert", str(path), str(tmp_path / "data")]
    assert main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:8] for line in lines] == ["x.tsv:1:", "x.tsv:2:"]
    assert not (tmp_path / "data").exists()


def test_options_reach_the_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ImageRow(name, "", 8, 4) for name in ("x/a.jpg", "x/c.jpg")]
    write_images(tmp_path / "images.tsv", rows)
    command = ["prepare", "regions", "lxmert", make_tsv(tmp_path / "x.ts"), str(tmp_path)]
    assert main([*command, "--match", "stem"]) == 1
    assert "images.tsv:4: image must be in the source" in capsys.readouterr().err
    assert main([*command, "--match", "stem", "--skip-missing", "--skip-bad"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  1 images of the source were not wanted",
        "left out: 1 without regions",
    ]


def test_efficientnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Network:
        def to(self, device: str, dtype: object) -> Network:
            return self

        def extract_features(self, values):  # type: ignore[no-untyped-def]
            return values.mean(dim=1, keepdim=True).repeat(1, 1280, 1, 1)

    monkeypatch.setattr(regions_efficientnet, "load_network", Network)
    Image.new("RGB", (4, 4), (255, 255, 255)).save(tmp_path / "a.png")
    write_images(tmp_path / "images.tsv", [ImageRow("a", "a.png", 4, 4)])
    options = ["--grid", "2", "1", "--precision", "float64", "--batch-size", "1", "--jobs", "1"]
    assert main(["prepare", "regions", "efficientnet", str(tmp_path), *options]) == 0
    assert capsys.readouterr().out == "2 regions of 1 images, 1280 dims\n"
    assert np.load(tmp_path / "regions.npy").tolist() == [[1.0] * 1280] * 2


@pytest.mark.parametrize(
    "arguments",
    [[], ["lxmert", "x"], ["fast-vgs"], ["efficientnet"], ["efficientnet", "x", "--grid", "0", "1"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", "regions", *arguments])
    assert caught.value.code == 2
