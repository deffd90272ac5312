"""Builds a data folder from the Tux Paint stamps: pictures with their names spoken in one language."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.output import refuse_inputs, refuse_output, staged_folder
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.manifest import AudioRow, ImageRow, PairRow
from fairseq_vgs.media.audio import (
    SILENCE_RMS,
    AudioError,
    Samples,
    clipped_share,
    content_hash,
    encode_flac,
    limit_peak,
    read_mono,
    resample,
    root_mean_square,
)
from fairseq_vgs.media.picture import PictureError, can_render_svg, encode_webp, pixel_hash, read_cut_out
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.prepare.build.split import SPLITS, connected_groups, split_by_group
from fairseq_vgs.prepare.build.tables import (
    RELATIVE_ROOT,
    CaptionedAudio,
    command_line,
    write_summary,
    write_tables,
)
from fairseq_vgs.prepare.corpora.stamps import Exclusions, Stamp, caption_key, find_stamps_folder, scan_stamps

logger = logging.getLogger(__name__)

MAKER = "tuxpaint"
SPEECH_FOLDER, PICTURE_FOLDER = "speech", "pictures"
# Shorter than this (samples) nothing is said, and wav2vec 2.0's extractor gives no frame.
MIN_SAMPLES = SAMPLE_RATE // 10
# Said in the summary only: in some languages every recording is clipped.
CLIPPED_SHARE = 0.02


@dataclass(frozen=True)
class TuxpaintConfig:
    """How to prepare the stamps.

    Attributes:
        language: language code as the package spells it.
        max_seconds: longer recordings are left out; 0 = none is.
        include_symbols: also take letters, digits, coins and the like.
        valid_share: share of the pictures meant for valid.
        test_share: the same for test.
        seed: another seed gives another division into splits.
        picture_size: longer side of the pictures at most, in pixels.
    """

    language: str
    max_seconds: float = 2.5
    include_symbols: bool = False
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 1
    picture_size: int = 224

    def __post_init__(self) -> None:
        """Refuses impossible values."""
        shares = self.valid_share, self.test_share
        if min(shares) < 0 or sum(shares) >= 1:
            step = "leave some pictures to train"
            raise FaultError(
                fault("--valid-share, --test-share", "must be >= 0, below 1 in all", shares, step)
            )
        if self.max_seconds < 0:
            raise FaultError(fault("--max-seconds", "must be >= 0", self.max_seconds, "0 takes all"))
        if self.picture_size < 1:
            raise FaultError(fault("--picture-size", "must be positive", self.picture_size, "224 is usual"))


@dataclass(frozen=True)
class PreparedStamp:
    """What is known of one stamp after its media were written."""

    stamp: Stamp
    audio: AudioRow
    image: ImageRow
    keys: tuple[tuple[str, str], ...]
    is_clipped: bool


def prepare_tuxpaint(
    stamps_dir: Path,
    output: Path,
    *,
    config: TuxpaintConfig,
    relative_root: bool = False,
    force: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Builds the folder and returns its summary.

    Pictures that share a recording, a caption (English or in the language) or their pixels, directly or
    through others, form a group: it lies in one split, and counts as one answer in retrieval.

    Args:
        stamps_dir: the unpacked Debian package, or the stamps folder in it.
        output: the folder to make.
        config: what to take.
        relative_root: write ``.`` as the root of the audio lists, so that the folder can be moved;
            stock fairseq tasks need the absolute path that is written otherwise.
        force: replace ``output`` if this command made it.
        jobs: number of threads; the result does not depend on it.
        progress: called with (pictures done, pictures in all).

    Raises:
        FaultError: nothing usable was found, or ``output`` exists.
    """
    refuse_output(output, maker=MAKER, force=force, inputs=[stamps_dir])
    folder = find_stamps_folder(stamps_dir)
    stamps, exclusions = scan_stamps(
        folder, config.language, include_symbols=config.include_symbols, svg=can_render_svg()
    )
    refuse_inputs(output, (path for stamp in stamps for path in (stamp.picture, stamp.speech)))
    root = RELATIVE_ROOT if relative_root else output.resolve()
    with staged_folder(output, maker=MAKER, force=force) as staging:
        work = partial(_prepare_stamp, folder=staging, config=config)
        prepared = []
        for stamp, result in zip(
            stamps, map_in_order(work, stamps, jobs=jobs, progress=progress), strict=True
        ):
            if isinstance(result, str):
                exclusions.add(result, stamp.stamp_id)
            else:
                prepared.append(result)
        if not prepared:
            reasons = "; ".join(f"{len(items)}: {why}" for why, items in exclusions.by_reason.items())
            raise FaultError(Fault(str(folder), f"no picture can be used; left out {reasons}"))
        groups = connected_groups({item.stamp.stamp_id: item.keys for item in prepared})
        splits = _divide(prepared, groups, config)
        write_tables(staging, splits, images=_image_rows(prepared, groups), root=root)
        summary = _summarize(prepared, groups, splits, exclusions, config)
        write_summary(staging, summary)
    return summary


def _prepare_stamp(stamp: Stamp, *, folder: Path, config: TuxpaintConfig) -> PreparedStamp | str:
    """Writes one stamp's media; returns why not where it cannot be used."""
    try:
        samples = _usable_speech(stamp.speech, config.max_seconds)
        picture = read_cut_out(stamp.picture, config.picture_size)
    except (AudioError, PictureError) as error:
        return str(error)
    limited = limit_peak(samples)
    speech_path = f"{SPEECH_FOLDER}/{stamp.stamp_id}.flac"
    picture_path = f"{PICTURE_FOLDER}/{stamp.stamp_id}.webp"
    for path, content in ((speech_path, encode_flac(limited)), (picture_path, encode_webp(picture))):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    keys = [
        ("recording", content_hash(limited)),
        ("picture", pixel_hash(picture)),
        ("English caption", caption_key(stamp.english)),
    ]
    if caption_key(stamp.text):
        keys.append(("caption", caption_key(stamp.text)))
    return PreparedStamp(
        stamp=stamp,
        audio=AudioRow(speech_path, len(samples)),
        image=ImageRow(stamp.stamp_id, picture_path, picture.width, picture.height),
        keys=tuple(keys),
        is_clipped=clipped_share(samples) > CLIPPED_SHARE,
    )


def _usable_speech(path: Path, max_seconds: float) -> Samples:
    samples, rate = read_mono(path)
    if max_seconds and len(samples) > max_seconds * rate:
        raise AudioError(f"speech longer than {max_seconds:g} s")
    if root_mean_square(samples) < SILENCE_RMS:
        raise AudioError("silent speech")
    resampled = resample(samples, rate)
    if len(resampled) < MIN_SAMPLES:
        raise AudioError(f"speech shorter than {MIN_SAMPLES / SAMPLE_RATE:g} s")
    return resampled


def _divide(
    prepared: Sequence[PreparedStamp], groups: Mapping[str, str], config: TuxpaintConfig
) -> dict[str, list[CaptionedAudio]]:
    split_of = split_by_group(
        groups, valid_share=config.valid_share, test_share=config.test_share, seed=config.seed
    )
    splits: dict[str, list[CaptionedAudio]] = {split: [] for split in SPLITS}
    for item in prepared:
        pair = PairRow(
            item.audio.audio_id, item.stamp.stamp_id, speaker=config.language, text=item.stamp.text
        )
        splits[split_of[item.stamp.stamp_id]].append(CaptionedAudio(item.audio, pair))
    for split, rows in splits.items():
        if not rows:
            logger.warning("%s is empty and left out: too few groups of pictures for its share", split)
    return {split: rows for split, rows in splits.items() if rows}


def _image_rows(prepared: Sequence[PreparedStamp], groups: Mapping[str, str]) -> list[ImageRow]:
    """Returns the image rows; the group stands only where it says more than the picture's own id."""
    sizes = Counter(groups.values())
    rows = []
    for item in prepared:
        group = groups[item.stamp.stamp_id]
        rows.append(replace(item.image, group=group if sizes[group] > 1 else ""))
    return rows


def _summarize(
    prepared: Sequence[PreparedStamp],
    groups: Mapping[str, str],
    splits: Mapping[str, Sequence[CaptionedAudio]],
    exclusions: Exclusions,
    config: TuxpaintConfig,
) -> dict[str, object]:
    return {
        "corpus": MAKER,
        "command": command_line(MAKER, "STAMPS_DIR OUTPUT", asdict(config)),
        "settings": asdict(config),
        "pictures": len(prepared),
        "groups": len(set(groups.values())),
        "svg_rendered": sum(item.stamp.picture.suffix == ".svg" for item in prepared),
        "without_text": sorted(item.stamp.stamp_id for item in prepared if not item.stamp.text),
        "clipped_recordings": sum(item.is_clipped for item in prepared),
        "splits": {
            split: {
                "pairs": len(rows),
                "groups": len({groups[row.pair.image_id] for row in rows}),
                "minutes": round(sum(row.audio.n_samples for row in rows) / SAMPLE_RATE / 60, 2),
            }
            for split, rows in splits.items()
        },
        "excluded": exclusions.summary(),
    }
