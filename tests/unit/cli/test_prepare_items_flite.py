"""Items from what flite prints and says, where it is installed (Debian, Ubuntu: apt-get install flite)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fairseq_vgs.cli.main import main
from fairseq_vgs.features.layers import MFCC_FRAME_RATE, mfcc_features
from fairseq_vgs.features.recordings import check_items, open_recordings
from fairseq_vgs.manifest import AudioRow, write_audio_list
from fairseq_vgs.metrics.abx import abx_scores, read_items

FLITE = shutil.which("flite")
VOICES = ("slt", "rms")
TEXTS = (
    "The cat sat on the mat.",
    "The bat sat on the hat.",
    "A cat and a bat ran to the mat.",
    "That hat is on the cat.",
)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Let two voices say every text: recordings, alignments, table of speakers."""
    folder = tmp_path_factory.mktemp("flite")
    rows = []
    lines = ["file\tspeaker"]
    for voice in VOICES:
        for number, text in enumerate(TEXTS):
            name = f"{voice}_{number}"
            command = [str(FLITE), "-voice", voice, "-psdur", "-t", text, "-o", str(folder / f"{name}.wav")]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
            (folder / f"{name}.flite").write_text(printed, encoding="utf-8")
            rows.append(AudioRow(f"{name}.wav", soundfile.info(str(folder / f"{name}.wav")).frames))
            lines.append(f"{name}\t{voice}")
    write_audio_list(folder / "test.tsv", rows, root=".")
    (folder / "speakers.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.skipif(FLITE is None, reason="no flite here")
def test_phones_of_flite_are_where_it_says(spoken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = spoken / "triphone.item"
    command = ["prepare", "items", str(spoken), str(output), "--speakers", str(spoken / "speakers.tsv")]
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    items = read_items(output)
    assert summary["items"] == len(items) > 100
    assert {item.speaker for item in items} == set(VOICES)
    assert {"ae", "t", "k"} <= {item.phone for item in items}
    recordings = open_recordings(spoken)
    check_items(items, recordings, name=output.name)
    for name in (f"{voice}_0" for voice in VOICES):
        samples = recordings[name].waveform()
        own = [item for item in items if item.file == name]
        assert [(item.phone, item.next_phone) for item in own if item.phone == "ae"] == [("ae", "t")] * 3
        vowel = max(own, key=lambda item: item.phone == "ae")
        start, end = (round(16_000 * float(time)) for time in (vowel.onset, vowel.offset))
        # what is labelled a vowel is louder than the utterance's first 50 ms, a pause
        assert np.square(samples[start:end]).mean() > 100 * np.square(samples[:800]).mean()
    scores = abx_scores(mfcc_features(recordings), items, frame_rate=MFCC_FRAME_RATE, seed=1)
    assert 0.0 <= scores["mfcc"].error < 0.2  # chance is 0.5: the labels fit the sound
