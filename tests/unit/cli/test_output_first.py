"""Where results go is tried before any work: nothing heavy is imported, and no input is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairseq_vgs.evaluation.results import SCHEMA_VERSION

# leaf command -> arguments, with OUT for the output, the option that names it, and what it does not replace
COMMANDS: dict[str, tuple[str, str, str]] = {
    "prepare flickr8k": ("CORPUS OUT", "OUTPUT", "OUT/summary.json"),
    "prepare lextest": ("CORPUS OUT", "OUTPUT", "OUT/summary.json"),
    "prepare speech": ("CORPUS OUT", "OUTPUT", "OUT/summary.json"),
    "prepare librispeech": ("CORPUS OUT --subset dev-clean=valid", "OUTPUT", "OUT/summary.json"),
    "prepare pairs": ("TABLE.csv OUT --regions efficientnet", "OUTPUT", "OUT/summary.json"),
    "prepare places": ("CORPUS OUT --without-pictures", "OUTPUT", "OUT/summary.json"),
    "prepare scenes": ("OUT", "OUTPUT", "OUT/summary.json"),
    "prepare spokencoco": ("CORPUS OUT --without-pictures", "OUTPUT", "OUT/summary.json"),
    "prepare tuxpaint": ("STAMPS OUT --language en", "OUTPUT", "OUT/summary.json"),
    "prepare image-features": ("OUT --backbone FOLDER", "DATA", "OUT/regions.tsv"),
    "prepare regions lxmert": ("FILE.tsv OUT", "DATA", "OUT/regions.tsv"),
    "prepare regions fast-vgs": ("FILE.hdf5 OUT", "DATA", "OUT/regions.npy"),
    "prepare regions efficientnet": ("OUT", "DATA", "OUT/regions.tsv"),
    "prepare items": ("ALIGNED OUT --speaker-folder", "OUTPUT", "OUT"),
    "prepare text": ("DATA OUT", "OUTPUT", "OUT/spm.model"),
    "evaluate retrieval": ("FILE.pt DATA --output OUT", "--output", "OUT/metrics.json"),
    "evaluate abx": ("FILE.pt DATA --output OUT", "--output", "OUT/metrics.json"),
    "evaluate lexical": ("FILE.pt DATA --output OUT", "--output", "OUT/metrics.json"),
    "evaluate run": ("RUN DATA --output OUT", "--output", ""),  # kept, and completed
    "extract": ("FILE.pt DATA --output OUT", "--output", ""),  # the same
    "compare": ("A B --output OUT", "--output", "OUT/comparison.json"),
    "plot training": ("LOG OUT.png", "OUTPUT", "OUT.csv"),
    "plot recall": ("LOG OUT.png", "OUTPUT", "OUT.png"),
    "plot probes": ("LOG OUT.png", "OUTPUT", "OUT.png"),
    "plot abx": ("RESULTS OUT.png", "OUTPUT", "OUT.png"),
    "plot lexical": ("RESULTS OUT.png", "OUTPUT", "OUT.png"),
    "gallery": ("RESULTS DATA OUT", "OUTPUT", "OUT/index.html"),
    "export": ("FILE.pt OUT", "OUTPUT", "OUT/config.json"),
    "import fast-vgs": ("FILE.pth OUT.pt", "OUTPUT", "OUT.pt"),
    "import wav2vec2": ("FILE.pt OUT.pt", "OUTPUT", "model/OUT.yaml"),
    "import hub": ("FOLDER OUT.pt", "OUTPUT", "OUT.pt"),
    "train": ("DATA --output OUT", "--output", ""),  # goes on
    "study": ("STUDY.yaml --output OUT", "--output", ""),  # goes on
}
# what imports and galleries read, looked at as early: arguments, code, end of the place
INPUTS = {
    "import fast-vgs NO.pth new.pt": ("file.missing", "NO.pth"),
    "import fast-vgs page.pt new.pt": ("checkpoint.kind", "page.pt"),
    "import fast-vgs any.pt new.pt --args NO.pkl": ("file.missing", "NO.pkl"),
    "import hub hub/name new.pt": ("file.missing", "hub/name"),
    "import wav2vec2 hub/name new.pt": ("file.missing", "hub/name"),
    "import wav2vec2 page.pt new.pt": ("checkpoint.kind", "page.pt"),
    "import wav2vec2 any.pt new.pt --image-backbone hub/name": ("backbone.missing", "hub/name"),
    "import wav2vec2 any.pt new.pt --data NO": ("file.missing", "NO/regions.npy"),
    "import wav2vec2 any.pt paper.pt": ("import.name", "paper.pt"),
    "gallery results NO new": ("file.missing", "NO/test.tsv"),
    "gallery results data new --plot NO.png": ("file.missing", "--plot"),
    "gallery NO data new": ("file.missing", "NO/metrics.json"),
    "demo NO --port 0": ("file.missing", "NO"),
    "demo page.pt --port 0": ("checkpoint.kind", "page.pt"),
    "demo data NO --port 0": ("file.missing", "NO"),
    "demo data page.pt --port 0": ("file.missing", "page.pt"),
}
WRITE_NOTHING = {"check", "configs", "demo"}
PROGRAM = """
import argparse, json, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "fairseq", "matplotlib", "transformers", "sentencepiece"):
            raise RuntimeError(f"imports {name} first")

sys.meta_path.insert(0, Forbidden())
from fairseq_vgs.cli import main
from fairseq_vgs.files.faults import FaultError

def leaves(parser):
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for group in groups:
        for child in group.choices.values():
            child.format_help()  # which fills it
            yield from leaves(child)
    if not groups:
        yield parser.prog.partition(" ")[2]

def outcome(arguments):
    try:
        main.main([*arguments, "--debug"])
    except FaultError as error:
        return [error.codes[0], error.faults[0].place, str(error)]
    except BaseException as error:
        return [type(error).__name__, "", str(error)]
    return ["done", "", ""]

found = {key: outcome(arguments) for key, arguments in json.load(sys.stdin).items()}
print(json.dumps([sorted(leaves(main.build_parser())), found]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], dict[str, Any]]:
    """All commands, and code, place and text of what each said of two outputs, in one process."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "file").write_text("x")
    (folder / "any.pt").write_bytes(b"PK\3\4")
    (folder / "page.pt").write_text("<html>")
    for path in ("test.tsv", "test.pairs.tsv", "images.tsv"):
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / path).write_text("x")
    (folder / "results").mkdir()
    metrics = {"schema_version": SCHEMA_VERSION, "kind": "retrieval", "split": "test"}
    (folder / "results" / "metrics.json").write_text(json.dumps(metrics))
    cases = {arguments: arguments.split() for arguments in INPUTS}
    for name, (arguments, _, existing) in COMMANDS.items():
        own = name.replace(" ", "-")
        outputs = {"unwritable": str(folder / "file" / own)}
        if existing:
            outputs["existing"] = str(folder / own)
            path = folder / existing.replace("OUT", own)
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        for kind, output in outputs.items():
            words = (word.replace("OUT", output) for word in arguments.split())
            cases[f"{kind} {name}"] = [*name.split(), *words]
    command = [sys.executable, "-c", PROGRAM]
    text = json.dumps(cases)
    done = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, found = json.loads(done.stdout.splitlines()[-1])
    return set(names), found


def test_the_table_has_all_commands_that_write(answers: tuple[set[str], dict[str, Any]]) -> None:
    assert set(COMMANDS) == answers[0] - WRITE_NOTHING


@pytest.mark.parametrize("name", COMMANDS)
def test_outputs_are_tried_first(answers: tuple[set[str], dict[str, Any]], name: str) -> None:
    _, option, existing = COMMANDS[name]
    code, place, text = answers[1][f"unwritable {name}"]
    assert code == "output.unwritable", text
    assert "file" in Path(place).parts
    assert f"another {option}" in text
    if existing:
        code, place, text = answers[1][f"existing {name}"]
        assert code == "output.exists", text
        assert name.replace(" ", "-") in place


@pytest.mark.parametrize("arguments", INPUTS)
def test_inputs_are_looked_at_before_torch_is_imported(
    answers: tuple[set[str], dict[str, Any]], arguments: str
) -> None:
    code, place, text = answers[1][arguments]
    assert (code, place[-len(INPUTS[arguments][1]) :]) == INPUTS[arguments], text
