"""What is printed for Hydra is read by Hydra as it was meant."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from fairseq_vgs.files.hydra import choice, override, quoted

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)


def parsed(text):
    return OverridesParser.create().parse_override(text)


@given(TEXT)
@example("a run, [1] {2}=3 'x' \"y\" ~ Ä\\")
@example("\\'")
@example("${x}")
def test_any_path_survives_shell_and_hydra(text):
    (word,) = shlex.split(shlex.join([override("hydra.run.dir", text)]))
    assert str(parsed(word).value()) == text
    (listed,) = parsed(f"hydra.searchpath=[{quoted(text)}]").value()
    assert str(listed) == text


@given(TEXT)
@example("null")
@example("tiny-1.0")
@example("mein Modell (2)")
def test_any_name_survives_as_a_choice(name):
    assert str(parsed(choice("model", name)).value()) == name


@pytest.mark.parametrize("name", ["tiny", "paper_2", "imported-wav2vec2.large"])
def test_plain_names_stay_plain(name):
    assert choice("model", name) == f"model={name}"
