"""The embedded phones and words as users have them: other rates, formats and channels, with TextGrids."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from support.abx_material import write_checkpoint

from fairseq_vgs.cli.main import main
from fairseq_vgs.configs import embedded_data
from fairseq_vgs.features.recordings import open_recordings
from fairseq_vgs.manifest.schema import AudioRow
from fairseq_vgs.manifest.tables import write_audio_list
from fairseq_vgs.media.encode import to_flac
from fairseq_vgs.media.sound import decode

N_RECORDINGS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``audio``: recordings at 44.1 kHz; ``grids``: their TextGrids; ``prepared``: a data folder of them."""
    root = tmp_path_factory.mktemp("user")
    abx = embedded_data() / "abx"
    chosen = dict(list(open_recordings(abx).items())[:N_RECORDINGS])
    phones = read_phones(abx, {one.audio_id: name for name, one in chosen.items()})
    rows = []
    for number, (name, recording) in enumerate(chosen.items()):
        wave = np.clip(resample_poly(recording.waveform().astype(np.float64), 441, 160), -1, 1)
        path = root / "audio/corpus 1/nsh" / f"{name}.{('flac', 'mp3')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([wave, 0.5 * wave], axis=1), 44_100)
        write_grid(root / "grids/nsh" / f"{name}.TextGrid", phones[name])
        content, n_samples = to_flac(decode(path))
        (root / "prepared").mkdir(exist_ok=True)
        (root / "prepared" / f"{name}.flac").write_bytes(content)
        rows.append(AudioRow(f"{name}.flac", n_samples))
    write_audio_list(root / "prepared/test.tsv", rows, root=".")
    header, *lines = (abx / "triphone.item").read_text(encoding="utf-8").splitlines()
    kept = [header, *(line for line in lines if line.split()[0] in chosen)]
    (root / "prepared/triphone.item").write_text("\n".join(kept) + "\n", encoding="utf-8")
    write_checkpoint(root / "checkpoint_best.pt")
    return root


def read_phones(abx: Path, names: dict[str, str]) -> dict[str, list[tuple[str, str, str]]]:
    found = defaultdict(list)
    with (abx / "alignments.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["audio_id"] in names:
                found[names[row["audio_id"]]].append((row["onset"], row["offset"], row["phone"]))
    return found


def write_grid(path: Path, phones: list[tuple[str, str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    end = phones[-1][1]
    lines = ['"ooTextFile"', '"TextGrid"', f"0 {end} <exists> 1"]
    lines += [f'"IntervalTier" "phones" 0 {end} {len(phones)}', *(f'{a} {b} "{c}"' for a, b, c in phones)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def evaluate(folder: Path, kind: str, data: str, output: Path, *options: str) -> dict[str, Any]:
    command = ["evaluate", kind, str(folder / "checkpoint_best.pt"), str(folder / data)]
    assert main([*command, "--output", str(output), *options]) == 0
    return dict(json.loads((output / "metrics.json").read_text(encoding="utf-8")))


def test_abx_of_a_folder_equals_that_of_prepared_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = evaluate(folder, "abx", "prepared", tmp_path / "prepared")
    items = ["--items", str(folder / "prepared/triphone.item")]
    by_items = evaluate(folder, "abx", "audio", tmp_path / "items", *items)
    (folder / "grids/nsh/extra.TextGrid").write_bytes((folder / "grids/nsh/ru_0001.TextGrid").read_bytes())
    capsys.readouterr()
    grids = ["--alignments", str(folder / "grids")]
    by_grids = evaluate(folder, "abx", "audio", tmp_path / "grids", *grids)
    printed = capsys.readouterr().out
    assert "triphones of grids" in printed and printed.count("ordered phone pairs") == 1
    assert (
        f"note: 1 of {N_RECORDINGS + 1} alignments have no recording and are left out: nsh/extra" in printed
    )
    for found in (by_items, by_grids):
        for name in ("trained", "untrained", "mfcc"):
            assert found["models"][name]["metrics"] == prepared["models"][name]["metrics"]
            assert found["models"][name]["counts"] == prepared["models"][name]["counts"]
    made = (tmp_path / "grids/made.item").read_text(encoding="utf-8").splitlines()
    expected = (folder / "prepared/triphone.item").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1:] for line in made] == [line.split()[1:] for line in expected]


def test_features_of_a_folder_are_those_of_prepared_data(folder: Path, tmp_path: Path) -> None:
    for data in ("audio", "prepared"):
        command = ["extract", str(folder / "checkpoint_best.pt"), str(folder / data)]
        assert main([*command, "--output", str(tmp_path / data), "--parts", "layers", "--layers", "2"]) == 0
    own, prepared = (sorted((tmp_path / data / "layer_2").rglob("*.npy")) for data in ("audio", "prepared"))
    assert [path.name for path in own] == [path.name for path in prepared]
    assert len(own) == N_RECORDINGS
    assert own[0].relative_to(tmp_path / "audio/layer_2").parts[:-1] == ("corpus 1", "nsh")
    for one, other in zip(own, prepared, strict=True):
        np.testing.assert_array_equal(np.load(one), np.load(other))


def test_words_are_named_by_folders_or_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two recordings of each of three words, one of them changed; the words are whole sentences here."""
    files = sorted((folder / "audio").rglob("ru_*"))[:3]
    for number, path in enumerate(files):
        for copy, suffix in enumerate((path.suffix, ".wav")):
            place = tmp_path / "folders" / ("One", "two", "three")[number] / f"{copy}{suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            flat = tmp_path / "flat" / f"{place.parent.name}_{copy}{suffix}"
            flat.parent.mkdir(exist_ok=True)
            if copy:
                sound = decode(path)
                soundfile.write(place, 0.5 * sound.samples, sound.rate)
            else:
                shutil.copyfile(path, place)
            shutil.copyfile(place, flat)
    by_folder = evaluate(folder, "lexical", str(tmp_path / "folders"), tmp_path / "a")
    assert "recall of words in %, by cosine of means: 6 recordings of 3 words" in capsys.readouterr().out
    by_name = evaluate(folder, "lexical", str(tmp_path / "flat"), tmp_path / "b", "--word-before", "_")
    assert by_folder["counts"] == by_name["counts"] == {"tokens": 6, "words": 3, "single_tokens": 0}
    for name, model in by_folder["models"].items():
        assert model["metrics"] == by_name["models"][name]["metrics"]
    with (tmp_path / "b/words.csv").open(encoding="utf-8", newline="") as file:
        assert {row["word"] for row in csv.DictReader(file)} == {"one", "two", "three"}
    command = ["evaluate", "lexical", str(folder / "checkpoint_best.pt")]
    assert (
        main([*command, str(tmp_path / "folders"), "--word-before", "0", "--output", str(tmp_path / "c")])
        == 1
    )
    assert capsys.readouterr().err.count("--word-before") == 6
    assert main([*command, str(folder / "audio"), "--output", str(tmp_path / "c")]) == 1
    assert "audio: folder must hold recordings of two words" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "nowhere"), "--output", str(tmp_path / "c")]) == 1
    assert "nowhere: must be a folder" in capsys.readouterr().err
    command.append(str(tmp_path / "flat"))
    for options in ([], ["--word-before", "#"]):
        assert main([*command, "--output", str(tmp_path / "c"), *options]) == 1
        assert capsys.readouterr().err.count("--word-before") == 6
