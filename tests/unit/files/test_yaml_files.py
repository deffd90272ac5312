"""YAML files are plain data of limited size, however few bytes describe it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from fairseq_vgs.files.yaml_files import MAX_BYTES, MAX_DEPTH, load_yaml

# Nine levels of nine aliases each: a gigabyte, if written out.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


def read(folder: Path, text: str) -> object:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return OmegaConf.to_container(load_yaml(path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "must have at most 100,000 values"),
        ("a: &a [*a]", r"alias \*a must follow"),
        ("a: &a {b: {c: *a}}", r"alias \*a must follow"),
        ("a: *b", r"alias \*b must follow"),
        ("[" * 50_000, "and 32 levels"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "and 32 levels"),
        ("a: " + "x" * MAX_BYTES, "must have at most 1,048,576 bytes"),
        ("a: !!python/object/apply:os.system [exit 1]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: [", "expected the node content"),
    ],
)
def test_what_is_too_large_or_code_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(yaml.YAMLError, match=reason):
        read(tmp_path, text)


def test_plain_files_are_read_as_before(tmp_path: Path) -> None:
    text = "\ufeffa: &a [1, &b é]\nc: {d: *a, e: *b}\nf: *b\n"
    assert read(tmp_path, text) == {"a": [1, "é"], "c": {"d": [1, "é"], "e": "é"}, "f": "é"}
    deep = "[" * (MAX_DEPTH - 3) + "1" + "]" * (MAX_DEPTH - 3)
    assert read(tmp_path, f"a: {deep}") == {"a": yaml.safe_load(deep)}
