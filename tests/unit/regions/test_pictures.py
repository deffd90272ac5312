from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.faults import raises_fault

from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest import ImageRow, read_regions, write_images
from fairseq_vgs.manifest.summary import refuse_other_regions
from fairseq_vgs.media.pictures import inspect_picture
from fairseq_vgs.regions.pictures import PictureRegions
from fairseq_vgs.regions.store import PARTIAL_FEATURES, PARTIAL_STATE, open_store

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


class MeanColour:
    """A network whose features can be worked out by hand: colour of the square's middle, and its width."""

    dim = 4

    def __init__(self, *, stop_after: int | None = None, name: str = "mean colour") -> None:
        self.n_seen = 0
        self._stop_after, self._name = stop_after, name

    def describe(self) -> Mapping[str, object]:
        return {"format": self._name}

    def network_input(self, square: Image.Image) -> NDArray[np.uint8]:
        assert square.width == square.height
        colour = square.getpixel((square.width // 2, square.height // 2))
        return np.array([*colour, square.width], np.uint8)  # type: ignore[misc]

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float16]:
        if self._stop_after is not None and self.n_seen >= self._stop_after:
            raise KeyboardInterrupt
        self.n_seen += len(batch)
        return batch.astype(np.float16)


def prepare_picture_regions(
    folder: Path,
    network: MeanColour,
    *,
    grid: tuple[int, int] = (1, 1),
    boxes: Path | None = None,
    batch_size: int = 16,
    jobs: int = 1,
    force: bool = False,
) -> dict[str, object]:
    return PictureRegions(network, grid, boxes, batch_size).compute(folder, jobs=jobs, force=force)


def make_pictures(folder: Path) -> None:
    """Two pictures of 4 x 2 pixels, left half and right half, and a transparent one of 2 x 2."""
    for name, left, right in (("a", RED, GREEN), ("b", BLUE, RED)):
        picture = Image.new("RGB", (4, 2), left)
        picture.paste(right, (2, 0, 4, 2))
        picture.save(folder / f"{name}.png")
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(folder / "c.png")
    rows = [ImageRow("a", "a.png", 4, 2), ImageRow("b", "b.png", 4, 2), ImageRow("c", "c.png", 2, 2)]
    write_images(folder / "images.tsv", rows)


GRID = [(*RED, 2), (*GREEN, 2), (*BLUE, 2), (*RED, 2), (*WHITE, 2), (*WHITE, 2)]


def features_of(folder: Path) -> list[tuple[float, ...]]:
    return [tuple(row) for row in np.load(folder / "regions.npy", allow_pickle=False).tolist()]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("jobs", [1, 3])
def test_cells_of_a_grid(tmp_path: Path, batch_size: int, jobs: int) -> None:
    make_pictures(tmp_path)
    summary = prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2), batch_size=batch_size, jobs=jobs)
    assert features_of(tmp_path) == GRID
    rows = read_regions(tmp_path / "regions.tsv")
    assert [(row.image_id, row.feature_row, row.x0, row.x1, row.y1) for row in rows[:3]] == [
        ("a", 0, 0, 0.5, 1),
        ("a", 1, 0.5, 1, 1),
        ("b", 2, 0, 0.5, 1),
    ]
    assert (summary["regions"], summary["grid"], summary["format"]) == (6, [1, 2], "mean colour")
    assert json.loads((tmp_path / "summary.json").read_text())["regions"] == summary
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("step", ["features", "table", "summary"])
@pytest.mark.parametrize("force", [False, True])
def test_no_kill_leaves_a_table_with_other_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, force: bool
) -> None:
    """Wherever the files are being put in place; the same command finishes the work, without computing."""
    make_pictures(tmp_path)
    if force:
        prepare_picture_regions(tmp_path, MeanColour(), grid=(2, 2))
    replace = Path.replace
    names = {"features": "regions.npy", "table": "regions.tsv", "summary": "summary.json"}

    def killed(self: Path, target: Path) -> Path:
        if target.name == names[step]:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2), force=force)
    assert step == "summary" or not (tmp_path / "regions.tsv").exists()
    done = prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2), force=force)
    assert done["rows_kept"] == 6
    assert features_of(tmp_path) == GRID
    refuse_other_regions(tmp_path, "regions.tsv", "regions.npy")
    assert not list(tmp_path.glob(".*"))
    with raises_fault("output.exists"):
        prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2))


@pytest.mark.parametrize("name", ["regions.tsv", "regions.npy"])
def test_regions_that_were_changed_are_refused(tmp_path: Path, name: str) -> None:
    make_pictures(tmp_path)
    prepare_picture_regions(tmp_path, MeanColour())
    content = bytearray((tmp_path / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / name).write_bytes(content)
    with raises_fault("regions.mismatch", str(tmp_path / name)):
        refuse_other_regions(tmp_path, "regions.tsv", "regions.npy")


def test_whole_pictures_are_centred_on_a_square(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    prepare_picture_regions(tmp_path, MeanColour())
    assert features_of(tmp_path) == [(*GREEN, 4), (*RED, 4), (*WHITE, 2)]


@pytest.mark.parametrize("header", ["image_id\tx0\ty0\tx1\ty1", "image_id\tfeature_row\tx0\ty0\tx1\ty1"])
def test_given_boxes(tmp_path: Path, header: str) -> None:
    make_pictures(tmp_path)
    row = "0\t" if "feature_row" in header else ""
    lines = [
        header,
        f"c\t{row}0\t0\t1\t1",
        f"a\t{row}0.6\t0\t0.7\t0.5",
        f"b\t{row}0\t0\t0.25\t0.5",
        f"a\t{row}0\t0\t1\t1",
    ]
    table = tmp_path / "boxes.tsv"
    table.write_text("\n".join(lines) + "\n")
    summary = prepare_picture_regions(tmp_path, MeanColour(), boxes=table)
    # 0.6 to 0.7 of 4 pixels is within the third of them
    assert features_of(tmp_path) == [(*GREEN, 1), (*GREEN, 4), (*BLUE, 1), (*WHITE, 2)]
    rows = read_regions(tmp_path / "regions.tsv")
    assert [(row.image_id, row.feature_row) for row in rows] == [("a", 0), ("a", 1), ("b", 2), ("c", 3)]
    assert np.float32(rows[0].x0) == np.float32(0.6)
    assert summary["boxes"] == "boxes.tsv"


@pytest.mark.parametrize("listed", ["Zoe\u0308/a.png", "Zoë\\a.png"])
def test_boxes_of_an_id_in_another_spelling(tmp_path: Path, listed: str) -> None:
    (tmp_path / "Zoë").mkdir()
    Image.new("RGB", (3, 3), RED).save(tmp_path / "Zoë/a.png")
    write_images(tmp_path / "images.tsv", [ImageRow("Zoë/a.png", "Zoë/a.png", 3, 3)])
    table = tmp_path / "boxes.tsv"
    table.write_text(f"image_id\tx0\ty0\tx1\ty1\n{listed}\t0\t0\t1\t1\n", "utf-8")
    prepare_picture_regions(tmp_path, MeanColour(), boxes=table)
    assert [row.image_id for row in read_regions(tmp_path / "regions.tsv")] == ["Zoë/a.png"]


def test_cells_share_no_pixels_where_float32_rounds(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), RED).save(tmp_path / "a.png")
    write_images(tmp_path / "images.tsv", [ImageRow("a", "a.png", 3, 3)])
    prepare_picture_regions(tmp_path, MeanColour(), grid=(3, 3))
    assert features_of(tmp_path) == [(*RED, 1)] * 9


def test_boxes_that_do_not_fit(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    table = tmp_path / "boxes.tsv"
    table.write_text("image_id\tx0\ty0\tx1\ty1\na\t0\t0\t1\t1\nghost\t0\t0\t1\t1\n")
    with pytest.raises(FaultError) as caught:
        prepare_picture_regions(tmp_path, MeanColour(), boxes=table)
    texts = [str(item) for item in caught.value.faults]
    assert texts[0].startswith("the boxes: image_id must be in images.tsv, got 'ghost'")
    assert [text[:13] for text in texts[1:]] == ["images.tsv:4:", "images.tsv:5:"]
    table.write_text("image_id\tx0\ty0\tx1\ty1\na\t0\t0\t0\t1\nb\t0\t0\t2\t1\n")
    with pytest.raises(FaultError) as caught:
        prepare_picture_regions(tmp_path, MeanColour(), boxes=table)
    assert [item.place for item in caught.value.faults] == ["boxes.tsv:2", "boxes.tsv:3"]


@pytest.mark.parametrize("n_torn", [0, 3])
def test_an_interrupted_run_is_continued(tmp_path: Path, n_torn: int) -> None:
    make_pictures(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare_picture_regions(tmp_path, MeanColour(stop_after=3), grid=(1, 2), batch_size=1)
    assert not (tmp_path / "regions.npy").exists()
    partial = tmp_path / PARTIAL_FEATURES
    if n_torn:  # three rows of six, of 8 bytes each
        partial.write_bytes(partial.read_bytes()[: -3 * 8 - n_torn])
    network = MeanColour()
    summary = prepare_picture_regions(tmp_path, network, grid=(1, 2), batch_size=2)
    n_kept = 2 if n_torn else 3
    assert (summary["rows_kept"], network.n_seen) == (n_kept, 6 - n_kept)
    assert features_of(tmp_path) == GRID
    assert not list(tmp_path.glob(".*"))


def former_state(folder: Path, network: MeanColour) -> None:
    """Leave three of six rows as the former version did: settings alone, and a file that ends with a row."""
    with pytest.raises(KeyboardInterrupt):
        prepare_picture_regions(folder, network, grid=(1, 2), batch_size=1)
    state, partial = folder / PARTIAL_STATE, folder / PARTIAL_FEATURES
    state.write_text(json.dumps(json.loads(state.read_text())["of"], sort_keys=True))
    partial.write_bytes(partial.read_bytes()[: -3 * 8])


def test_what_the_former_version_began_goes_on(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    former_state(tmp_path, MeanColour(stop_after=3))
    network = MeanColour()
    assert prepare_picture_regions(tmp_path, network, grid=(1, 2))["rows_kept"] == 3
    assert network.n_seen == 3
    assert features_of(tmp_path) == GRID
    assert not list(tmp_path.glob(".*"))


def test_what_the_former_version_began_with_other_settings_is_refused(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    former_state(tmp_path, MeanColour(stop_after=3))
    before = (tmp_path / PARTIAL_FEATURES).read_bytes()
    with raises_fault("work.settings", PARTIAL_FEATURES):
        prepare_picture_regions(tmp_path, MeanColour(name="other"), grid=(1, 2))
    assert (tmp_path / PARTIAL_FEATURES).read_bytes() == before


def test_work_of_other_settings_is_not_used(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    for network, grid in (
        (MeanColour(stop_after=2, name="other"), (1, 2)),
        (MeanColour(stop_after=2), (2, 1)),
    ):
        with pytest.raises(KeyboardInterrupt):
            prepare_picture_regions(tmp_path, network, grid=grid, batch_size=1)
    summary = prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2))
    assert summary["rows_kept"] == 0
    assert features_of(tmp_path) == GRID


def test_work_on_pictures_that_changed_is_not_used(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare_picture_regions(tmp_path, MeanColour(stop_after=3), grid=(1, 2), batch_size=1)
    Image.new("RGB", (4, 2), WHITE).save(tmp_path / "a.png")
    assert prepare_picture_regions(tmp_path, MeanColour(), grid=(1, 2))["rows_kept"] == 0
    assert features_of(tmp_path) == [(*WHITE, 2), (*WHITE, 2), *GRID[2:]]


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    with (tmp_path / PARTIAL_FEATURES).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with raises_fault("output.busy"):
            prepare_picture_regions(tmp_path, MeanColour())


def test_a_run_that_is_publishing_keeps_its_features(tmp_path: Path) -> None:
    with open_store(tmp_path, {}, n_rows=1) as store:
        store.append(np.ones((1, 2), np.float16), lambda _: "a")
        store.publish(["a\t0\t0\t0\t1\t1\n"])
        with raises_fault("output.busy", tmp_path.name), open_store(tmp_path, {}, n_rows=1):
            pass
        assert (tmp_path / "regions.npy").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["regions.npy", "regions.tsv"]


def test_all_pictures_that_do_not_decode_are_named(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:40])
    with pytest.raises(FaultError) as caught:
        prepare_picture_regions(tmp_path, MeanColour())
    assert [item.place for item in caught.value.faults] == ["images.tsv:3", "images.tsv:5"]
    assert "file is missing" in str(caught.value)
    assert "picture must decode" in str(caught.value)
    assert not (tmp_path / "regions.npy").exists()
    assert not (tmp_path / "regions.tsv").exists()


def test_pictures_are_needed_and_regions_not_replaced(tmp_path: Path) -> None:
    write_images(tmp_path / "images.tsv", [ImageRow("a", "", 4, 2)])
    with raises_fault("picture.missing", "images.tsv:3"):
        prepare_picture_regions(tmp_path, MeanColour())
    (tmp_path / "regions.tsv").write_text("mine")
    with raises_fault("output.exists", "regions.tsv") as caught:
        prepare_picture_regions(tmp_path, MeanColour())
    assert (caught.value.codes, caught.value.faults[0].place) == (
        ("output.exists",),
        str(tmp_path / "regions.tsv"),
    )


def test_features_that_are_no_numbers(tmp_path: Path) -> None:
    class Broken(MeanColour):
        def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float16]:
            return np.full(batch.shape, np.inf, np.float16)

    make_pictures(tmp_path)
    with pytest.raises(FaultError) as caught:
        prepare_picture_regions(tmp_path, Broken())
    assert (caught.value.codes, caught.value.faults[0].place) == (("regions.not_finite",), "images.tsv:3")
    assert not list(tmp_path.glob(".*"))


def test_no_pictures_no_regions(tmp_path: Path) -> None:
    with pytest.raises(FaultError) as caught, open_store(tmp_path, {}, n_rows=0):
        pass
    assert caught.value.codes == ("table.empty",)


def same_pictures() -> dict[str, bytes]:
    """Return one picture, as a camera, a scanner and a painter may store it."""
    grey = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    upright = Image.fromarray(grey)
    turned = Image.Exif()
    turned[0x0112] = 6
    opaque = upright.convert("RGBA")
    files = {
        "plain.png": (upright, {}),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "deep.tif": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "turned.png": (upright.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
        "turned.tif": (upright.transpose(Image.Transpose.ROTATE_90), {"tiffinfo": {0x0112: 6}}),
        "alpha.webp": (opaque, {"lossless": True}),
        "colours.bmp": (upright.convert("RGB"), {}),
    }
    contents = {}
    for name, (picture, settings) in files.items():
        buffer = io.BytesIO()
        kind = {"tif": "TIFF"}.get(name[-3:], name.rpartition(".")[2].upper())
        picture.save(buffer, kind, **settings)  # type: ignore[arg-type]
        contents[name] = buffer.getvalue()
    return contents


class Pixels(MeanColour):
    """A network whose features are the pixels of a cell of 3 x 2."""

    dim = 27

    def network_input(self, square: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(square.convert("RGB")).reshape(-1)


def test_regions_are_those_of_the_upright_picture_however_it_is_stored(tmp_path: Path) -> None:
    contents = same_pictures()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sizes = {name: inspect_picture(content) for name, content in contents.items()}
    rows = [ImageRow(name, name, info.width, info.height) for name, info in sizes.items()]
    write_images(tmp_path / "images.tsv", rows)
    prepare_picture_regions(tmp_path, Pixels(), grid=(2, 2))
    features = np.load(tmp_path / "regions.npy").reshape(len(rows), 4, 27)
    for found in features[1:]:
        np.testing.assert_array_equal(found, features[0])


def test_animated_pictures_are_said_to_give_their_first_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    write_images(tmp_path / "images.tsv", [ImageRow("a", "a.gif", 4, 4)])
    prepare_picture_regions(tmp_path, MeanColour())
    assert features_of(tmp_path) == [(*RED, 4)]
    assert "1 animated pictures: only the first frame is used (a.gif, ...)" in caplog.text
