"""Options of a command declared once, as fields of a dataclass."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from fairseq_vgs.options import add_options, option, positive, positive_number, read_options


@dataclass(frozen=True)
class Settings:
    data: Path = option(help="the data folder", positional=True)
    split: str = option("test", help="split of DATA")
    distance: Literal["angular", "euclidean"] = option("angular", help="between frames")
    layers: tuple[int, ...] | None = option(None, help="only these layers", metavar="N")
    baselines: tuple[str, ...] = option(
        ("untrained", "mfcc"), help="baselines", name="--baseline", repeated=True
    )
    force: bool = option(False, help="replace existing results")
    bars: bool = option(True, help="show progress")
    share: float | None = option(None, help="50 %% at most")
    media: bool = option(True, help="leave media out", name="--no-media")
    batch: int = option(2, help="of a batch", parse=positive)
    internal: int = 3
    elsewhere: "NotImportedHere" = None  # noqa: F821


def parse(*arguments, **given):
    parser = argparse.ArgumentParser(prog="prog")
    add_options(parser, Settings)
    return read_options(parser.parse_args(arguments), Settings, **given)


def test_defaults_are_the_fields():
    assert parse("D") == Settings(Path("D"))


def test_every_kind_of_value():
    settings = parse(
        "D", "--split", "valid", "--distance", "euclidean", "--layers", "1", "2", "--baseline", "mfcc",
        "--force", "--no-bars", "--share", "0.5", "--no-media", "--batch", "3", internal=4,
    )  # fmt: skip
    assert settings == Settings(
        Path("D"),
        "valid",
        "euclidean",
        (1, 2),
        ("mfcc",),
        force=True,
        bars=False,
        share=0.5,
        media=False,
        batch=3,
        internal=4,
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("D", "--distance", "cosine"), ("D", "--layers", "x"), ("D", "--batch", "0"), ("D", "--unknown")],
)
def test_wrong_usage_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2


def test_help_shows_defaults_once(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "split of DATA (default: test)" in shown
    assert "baselines (default: untrained mfcc)" in shown
    assert "internal" not in shown
    assert "None" not in shown
    assert "50 % at most" in shown


def test_a_field_can_be_left_to_the_command():
    parser = argparse.ArgumentParser()
    add_options(parser, Settings, leave_out=("split",))
    assert read_options(parser.parse_args(["D"]), Settings, split="x").split == "x"


@dataclass(frozen=True)
class Grid:
    sizes: tuple[int, int] = option((2, 4), help="fewest and most", metavar=("FEWEST", "MOST"))
    jobs: int = option(1, help="threads", name="--jobs --workers")
    images: Path | None = option(None, help="pictures", exclusive="pictures", needed=True)
    without: bool = option(False, help="no pictures", exclusive="pictures", needed=True)


def test_lengths_aliases_and_options_that_exclude_each_other(capsys):
    parser = argparse.ArgumentParser()
    add_options(parser, Grid)
    grid = read_options(parser.parse_args(["--sizes", "1", "3", "--workers", "2", "--without"]), Grid)
    assert grid == Grid((1, 3), 2, without=True)
    assert read_options(parser.parse_args(["--images", "i"]), Grid) == Grid(images=Path("i"))
    for wrong in ([], ["--images", "i", "--without"], ["--without", "--sizes", "1"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_numbers_above_0(text):
    for parse_number in (positive, positive_number):
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            parse_number(text)
    assert (positive("2"), positive_number("0.5")) == (2, 0.5)
