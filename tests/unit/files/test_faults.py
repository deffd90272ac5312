from __future__ import annotations

import pickle

import pytest

from fairseq_vgs.files.faults import MAX_SHOWN, Fault, FaultError, fault, raise_any


def test_fault_has_place_expectation_value_and_next_step() -> None:
    item = fault("pairs.tsv:17", "n_samples must be a positive integer", "-3", "rerun fairseq-vgs prepare")
    assert (
        str(item) == "pairs.tsv:17: n_samples must be a positive integer, got '-3'; rerun fairseq-vgs prepare"
    )


def test_numbers_are_shown_bare() -> None:
    assert fault("a", "rate must be 16000 Hz", 44100, "resample").message.endswith("got 44100; resample")


def test_long_values_are_shortened() -> None:
    message = fault("a", "x must be short", "y" * 10_000, "cut it").message
    assert len(message) < MAX_SHOWN + 60
    assert " ... " in message


@pytest.mark.parametrize("nasty", ["a\nb", "a\rb", "a\x1b[31mb", "a\u2028b", "a\udce9b"])
def test_a_fault_is_one_printable_line(nasty: str) -> None:
    text = str(Fault(nasty, nasty))
    assert text.isprintable()
    text.encode()


def test_cyrillic_stays_readable() -> None:
    assert str(Fault("сцены.tsv:1", "слово")) == "сцены.tsv:1: слово"


def test_error_lists_all_faults_one_per_line() -> None:
    error = FaultError([Fault("a:1", "x"), Fault("b:2", "y")])
    assert str(error) == "a:1: x\nb:2: y"
    assert error.faults == (Fault("a:1", "x"), Fault("b:2", "y"))
    assert isinstance(error, ValueError)


def test_faults_of_a_file_are_raised_by_line() -> None:
    places = ["t.csv:10", "a.wav", "t.csv:9", "b.csv:1"]
    with pytest.raises(FaultError) as caught:
        raise_any(Fault(place, "x") for place in places)
    assert [item.place for item in caught.value.faults] == ["t.csv:9", "t.csv:10", "a.wav", "b.csv:1"]


def test_error_takes_a_single_fault() -> None:
    assert FaultError(Fault("a:1", "x")).faults == (Fault("a:1", "x"),)


def test_error_travels_between_processes() -> None:
    error = FaultError([Fault("a:1", "x")])
    copy = pickle.loads(pickle.dumps(error))
    assert copy.faults == error.faults
    assert str(copy) == str(error)


def test_error_refuses_text() -> None:
    with pytest.raises(TypeError, match="takes Fault objects"):
        FaultError("something is wrong")  # type: ignore[arg-type]
