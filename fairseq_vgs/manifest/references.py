"""Find faults between tables: ids that one table uses and another lacks."""

from __future__ import annotations

from collections.abc import Container
from operator import attrgetter
from typing import Any

from fairseq_vgs.files.faults import Fault, fault
from fairseq_vgs.files.tables import CORRECT_LINE, Table
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow, UtteranceRow


def unknown_audio(table: Table[PairRow | UtteranceRow], audio: Table[AudioRow]) -> list[Fault]:
    """Return the pairs, or utterances, that are not in the split's audio list."""
    expected, unknown = f"audio_id must be in {audio.name}", _unknown(table, audio, "audio_id")
    return [fault(place, expected, name, CORRECT_LINE, code="sound.unknown") for place, name in unknown]


def paired_utterances(utterances: Table[UtteranceRow], pairs: Table[PairRow]) -> list[Fault]:
    """Return the utterances that a pair tells speaker and text of, too: one of the two could be wrong."""
    paired = {row.audio_id for row in pairs.rows}
    expected, step = f"audio_id must not be in {pairs.name} too", "remove the line; a pair has both columns"
    twice = ((place, row.audio_id) for place, row in utterances.placed() if row.audio_id in paired)
    return [fault(place, expected, name, step, code="item.duplicate") for place, name in twice]


def unknown_images(table: Table[PairRow | RegionRow], images: Table[ImageRow]) -> list[Fault]:
    """Return the pairs, or regions, whose image is not in the image table."""
    expected, unknown = f"image_id must be in {images.name}", _unknown(table, images, "image_id")
    return [fault(place, expected, name, CORRECT_LINE, code="picture.unknown") for place, name in unknown]


def _unknown(table: Table[Any], listed: Table[Any], column: str) -> list[tuple[str, str]]:
    """Return place and id of the rows whose id another table does not list, as far as that is known."""
    id_of = attrgetter(column)
    known = {*map(id_of, listed.rows)} | listed.doubtful
    return [(place, id_of(row)) for place, row in table.placed() if listed.usable and id_of(row) not in known]


def images_without_regions(
    pairs: Table[PairRow], regions: Table[RegionRow], known_images: Container[str]
) -> list[Fault]:
    """Return the first pair of each image that the region table leaves out."""
    if not regions.usable:
        return []
    have_regions = {row.image_id for row in regions.rows} | regions.doubtful
    first: dict[str, str] = {}
    for place, row in pairs.placed():
        if row.image_id not in have_regions and row.image_id in known_images:
            first.setdefault(row.image_id, place)
    expected = f"image must have regions in {regions.name}"
    step = f"add its regions, or remove {regions.name} to train from pictures"
    return [
        Fault(place, f"{expected}, got none for {image_id!r}; {step}", "regions.missing")
        for image_id, place in first.items()
    ]


def images_of_nothing(images: Table[ImageRow], regions: Table[RegionRow] | None) -> list[Fault]:
    """Return the images that have neither a picture nor a region."""
    if regions is not None and not regions.usable:
        return []
    have_regions = {row.image_id for row in regions.rows} | regions.doubtful if regions is not None else set()
    message = "path must name a picture, or regions.tsv regions of the image, got neither; add one of them"
    bare = (place for place, row in images.placed() if not row.path and row.image_id not in have_regions)
    return [Fault(place, message, "picture.missing") for place in bare]


def feature_rows_out_of_range(regions: Table[RegionRow], n_rows: int) -> list[Fault]:
    """Return the regions whose feature row does not exist."""
    expected = f"feature_row must be below the {n_rows} rows of regions.npy"
    beyond = ((place, row.feature_row) for place, row in regions.placed() if row.feature_row >= n_rows)
    step = "rebuild both files together"
    return [fault(place, expected, number, step, code="regions.row") for place, number in beyond]
