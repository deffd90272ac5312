"""The Tux Paint stamps: pictures with their names spoken in one language.

Layout of the unpacked package: ``<dir>/<NAME>.png`` or ``.svg``; ``NAME_desc_LL.ogg`` holds the caption
spoken in language LL (``NAME_desc.ogg``: English); ``NAME.txt`` holds the English caption on line 1, then one
``LL.utf8=caption`` line per language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fairseq_vgs.files.archives import write_whole
from fairseq_vgs.files.faults import FaultError, fault, raise_any
from fairseq_vgs.files.output import refuse_inputs, refuse_output, staged_folder
from fairseq_vgs.files.parallel import Progress, map_in_order
from fairseq_vgs.files.texts import read_text
from fairseq_vgs.manifest import AudioRow, ImageRow, PairRow
from fairseq_vgs.media.errors import MediumError
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.options import option
from fairseq_vgs.prepare.build.options import BuildOptions
from fairseq_vgs.prepare.build.split import SPLITS, bad_shares, caption_key, connected_groups, split_by_group
from fairseq_vgs.prepare.build.tables import CaptionedAudio, command_line, write_summary, write_tables
from fairseq_vgs.prepare.corpora import CORPORA, NO_COPIES, Preparation
from fairseq_vgs.prepare.corpus import PICTURES, SPEECH, Exclusions

if TYPE_CHECKING:
    from fairseq_vgs.media.sound import Samples

MAKER = "tuxpaint"
# Samples; anything shorter has no speech, and gives no frame of wav2vec 2.0.
MIN_SAMPLES = SAMPLE_RATE // 10
# Only reported in the summary: in some languages every recording is clipped.
CLIPPED_SHARE = 0.02
PACKAGE_FOLDER = Path("usr/share/tuxpaint/stamps")
SYMBOLS_FOLDER = "symbols"
ENGLISH = "en"
PICTURE_SUFFIXES = (".png", ".svg")  # where both exist the PNG is the finished picture
SPEECH_SUFFIXES = (".ogg", ".wav")
LANGUAGE_PATTERN = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?(@[a-z]+)?")


@dataclass(frozen=True)
class Stamp:
    """One picture with its caption spoken in one language.

    ``stamp_id`` is the picture's path below the stamps folder without suffix; ``english`` and ``text`` are
    the caption in English and in the language of the recording (empty where the package lacks it).
    """

    stamp_id: str
    picture: Path
    speech: Path
    english: str
    text: str


@dataclass(frozen=True)
class PreparedStamp:
    """One stamp whose media were written; stamps that share one of the keys stay together."""

    stamp: Stamp
    audio: AudioRow
    image: ImageRow
    keys: Sequence[tuple[str, str]]
    is_clipped: bool


@CORPORA.register("tuxpaint")
@dataclass(frozen=True)
class TuxPaint(Preparation):
    """Pictures with their names spoken in one of 14 languages (Debian: tuxpaint-stamps-default).

    Pictures of single objects with their recorded names, split so that no recording, caption or picture is in
    two splits. Get the corpus with:
      apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb STAMPS
    """

    examples = (
        "fairseq-vgs prepare tuxpaint STAMPS DATA --language fr",
        "fairseq-vgs prepare tuxpaint STAMPS DATA --language ru --max-seconds 0 --include-symbols",
    )
    source = ("STAMPS", "the unpacked package")
    without = NO_COPIES

    language: str = option(
        metavar="CODE",
        help="language of the speech: be, bg, ca, da, el, en, es, fr, lt, ml, nl, pt_BR, ro or ru",
    )
    max_seconds: float = option(2.5, help="leave out longer recordings; 0: none", metavar="SECONDS")
    include_symbols: bool = option(False, help="also letters, digits, coins, signs")
    valid_share: float = option(0.1, help="share of pictures for valid", metavar="SHARE")
    test_share: float = option(0.1, help="share of pictures for test", metavar="SHARE")
    seed: int = option(1, help="seed of all choices", metavar="N")
    picture_size: int = option(224, help="longer side of the pictures at most", metavar="PIXELS")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = bad_shares(self.valid_share, self.test_share)
        if self.max_seconds < 0:
            got = self.max_seconds
            faults.append(fault("--max-seconds", "must be >= 0", got, "0 takes all", code="setting.value"))
        if self.picture_size < 1:
            got, step = self.picture_size, "224 is usual"
            faults.append(fault("--picture-size", "must be positive", got, step, code="setting.value"))
        raise_any(faults)

    def build(
        self, source: Path, output: Path, options: BuildOptions, progress: Progress | None
    ) -> dict[str, object]:
        """Build the folder.

        Pictures that share a recording, a caption (English or in the language) or their pixels, directly or
        through others, form a group: it lies in one split, and counts as one answer in retrieval.

        Raises:
            FaultError: An output that must not be written, or no usable picture.
        """
        from fairseq_vgs.media.cut_out import can_render_svg

        refuse_output(output, maker=MAKER, force=options.force, inputs=[source])
        folder = find_stamps_folder(source)
        stamps, exclusions = scan_stamps(
            folder, self.language, include_symbols=self.include_symbols, svg=can_render_svg()
        )
        refuse_inputs(output, (path for stamp in stamps for path in (stamp.picture, stamp.speech)))
        with staged_folder(output, maker=MAKER, force=options.force) as staging:
            work = partial(_prepare_stamp, folder=staging, settings=self)
            prepared = []
            results = map_in_order(work, stamps, jobs=options.jobs, progress=progress)
            for stamp, result in zip(stamps, results, strict=True):
                if isinstance(result, str):
                    exclusions.add(result, stamp.stamp_id)
                else:
                    prepared.append(result)
            if not prepared:
                message = f"must hold a usable picture, got none; left out {exclusions.listing()}"
                raise FaultError.at(folder, message, "picture.missing")
            groups = connected_groups({item.stamp.stamp_id: item.keys for item in prepared})
            sizes = Counter(groups.values())
            images = [  # pictures alone in their group get none
                replace(item.image, group=group if sizes[group] > 1 else "")
                for item in prepared
                for group in [groups[item.stamp.stamp_id]]
            ]
            splits = _divide(prepared, groups, self)
            write_tables(staging, splits, images=images, root=options.own_root(output))
            summary = {**_summarize(prepared, groups, splits, exclusions, self), **options.typed}
            write_summary(staging, summary)
        return summary


def _prepare_stamp(stamp: Stamp, *, folder: Path, settings: TuxPaint) -> PreparedStamp | str:
    """Write one stamp's media, or return why it cannot be used."""
    from fairseq_vgs.media import cut_out, encode, pictures

    try:
        samples = _read_speech(stamp.speech, settings.max_seconds)
        if isinstance(samples, str):
            return samples
        picture = cut_out.read_cut_out(stamp.picture, settings.picture_size)
    except MediumError as error:
        return error.reason
    limited = encode.limit_peak(samples)
    audio = AudioRow(f"{SPEECH}/{stamp.stamp_id}.flac", len(samples))
    image = ImageRow(stamp.stamp_id, f"{PICTURES}/{stamp.stamp_id}.webp", picture.width, picture.height)
    write_whole(folder / audio.audio_id, encode.encode_flac(limited))
    write_whole(folder / image.path, pictures.encode_webp(picture))
    keys = [
        ("recording", encode.content_hash(limited)),
        ("picture", pictures.pixel_hash(picture)),
        ("English caption", caption_key(stamp.english)),
    ]
    if key := caption_key(stamp.text):
        keys.append(("caption", key))
    return PreparedStamp(stamp, audio, image, keys, encode.clipped_share(samples) > CLIPPED_SHARE)


def _read_speech(path: Path, max_seconds: float) -> Samples | str:
    """Return a recording at 16 kHz, or why it is of no use."""
    from fairseq_vgs.media import encode, sound

    found = sound.decode(path)
    if max_seconds and len(found.samples) > max_seconds * found.rate:
        return f"speech longer than {max_seconds:g} s"
    if encode.root_mean_square(found.samples) < encode.SILENCE_RMS:
        return "silent speech"
    resampled = encode.resample(found.samples, found.rate)
    if len(resampled) < MIN_SAMPLES:
        return f"speech shorter than {MIN_SAMPLES / SAMPLE_RATE:g} s"
    return resampled


def _divide(
    prepared: Sequence[PreparedStamp], groups: Mapping[str, str], settings: TuxPaint
) -> dict[str, list[CaptionedAudio]]:
    split_of = split_by_group(
        groups, valid_share=settings.valid_share, test_share=settings.test_share, seed=settings.seed
    )
    splits: dict[str, list[CaptionedAudio]] = {split: [] for split in SPLITS if split in split_of.values()}
    for item in prepared:
        stamp = item.stamp
        pair = PairRow(item.audio.audio_id, stamp.stamp_id, speaker=settings.language, text=stamp.text)
        splits[split_of[stamp.stamp_id]].append(CaptionedAudio(item.audio, pair))
    return splits


def _summarize(
    prepared: Sequence[PreparedStamp],
    groups: Mapping[str, str],
    splits: Mapping[str, Sequence[CaptionedAudio]],
    exclusions: Exclusions,
    settings: TuxPaint,
) -> dict[str, object]:
    return {
        "corpus": MAKER,
        "command": command_line(MAKER, "STAMPS_DIR OUTPUT", settings.settings()),
        "settings": settings.settings(),
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


def find_stamps_folder(folder: Path) -> Path:
    """Return the stamps folder, given itself or the root of the unpacked package.

    Raises:
        FaultError: There is no such folder, or no picture in it.
    """
    candidate = folder / PACKAGE_FOLDER
    found = candidate if candidate.is_dir() else folder
    if not found.is_dir() or not any(any(found.rglob(f"*{suffix}")) for suffix in PICTURE_SUFFIXES):
        message = (
            "must be the unpacked package tuxpaint-stamps-default, got a folder without pictures or none; "
            "unpack it with dpkg-deb -x PACKAGE.deb FOLDER and name that FOLDER"
        )
        raise FaultError.at(folder, message, "corpus.folder")
    return found


def read_captions(path: Path) -> dict[str, str]:
    """Return the captions of a ``NAME.txt`` by language code; English under ``en``.

    Raises:
        FaultError: ``file.encoding`` and others of ``read_text``.
    """
    first, *others = read_text(path, "unpack the stamps again").splitlines() or [""]
    found = (line.partition(".utf8=") for line in others)
    return {key.strip(): text.strip() for key, equals, text in found if equals} | {ENGLISH: first.strip()}


def _existing(stem: Path, endings: Sequence[str]) -> Path | None:
    candidates = (stem.with_name(stem.name + ending) for ending in endings)
    return next((path for path in candidates if path.is_file()), None)


def scan_stamps(
    folder: Path, language: str, *, include_symbols: bool, svg: bool
) -> tuple[tuple[Stamp, ...], Exclusions]:
    """List every picture that has a recording in the language, and what was left out.

    The language is a code in the package's spelling, such as ``ru`` or ``pt_BR``. Symbols (letters, digits,
    coins and the like) and ``svg`` drawings are taken if asked for.

    Raises:
        FaultError: The language code is malformed, or no picture has a recording in it.
    """
    if not LANGUAGE_PATTERN.fullmatch(language):
        expected, step = "must be a code such as ru or pt_BR", "see the package's file names"
        raise FaultError(fault("--language", expected, language, step, code="setting.value"))
    exclusions = Exclusions()
    stamps = []
    ending = "_desc" if language == ENGLISH else f"_desc_{language}"
    with_picture = set()
    pictures = (path for path in folder.rglob("*") if path.suffix in PICTURE_SUFFIXES)
    for stem in sorted({path.with_suffix("") for path in pictures}):
        stamp_id = stem.relative_to(folder).as_posix()
        speech = _existing(stem, [ending + suffix for suffix in SPEECH_SUFFIXES])
        with_picture.add(speech)
        stamp = _read_stamp(stem, stamp_id, speech, language)
        if isinstance(stamp, str):
            exclusions.add(stamp, stamp_id)
        elif not include_symbols and stamp_id.split("/")[0] == SYMBOLS_FOLDER:
            exclusions.add("symbol (letters, digits, coins, ...; taken with --include-symbols)", stamp_id)
        elif stamp.picture.suffix == ".svg" and not svg:
            exclusions.add("SVG drawing, and rsvg-convert is not installed", stamp_id)
        else:
            stamps.append(stamp)
    for path in set(_recordings(folder, ending)) - with_picture:
        exclusions.add("speech without a picture", path.relative_to(folder).as_posix())
    if not stamps:
        speech_files = [*_recordings(folder, "_desc"), *_recordings(folder, "_desc_*")]
        codes = {path.name.partition(".")[0].rpartition("_desc")[2] for path in speech_files}
        languages = {code.removeprefix("_") or ENGLISH for code in codes}
        there = ", ".join(sorted(languages)) or "none"
        message = f"must hold usable pictures with speech, NAME{ending}.ogg, got none"
        message += f" (left out {exclusions.listing()}); choose another --language (there: {there})"
        raise FaultError.at(folder, message, "recording.missing")
    return tuple(stamps), exclusions


def _recordings(folder: Path, ending: str) -> list[Path]:
    return [path for suffix in SPEECH_SUFFIXES for path in folder.rglob(f"*{ending}{suffix}")]


def _read_stamp(stem: Path, stamp_id: str, speech: Path | None, language: str) -> Stamp | str:
    """Return the stamp, or why there is none."""
    picture = _existing(stem, PICTURE_SUFFIXES)
    if speech is None or picture is None:
        return "no speech in this language"
    path = stem.with_name(f"{stem.name}.txt")
    if not path.exists():
        return "no caption file"
    try:
        captions = read_captions(path)
    except FaultError as error:
        if error.codes != ("file.encoding",):
            raise
        return "caption file is not UTF-8"
    # Splits are told apart by the English caption: without one, leakage could not be ruled out.
    if not caption_key(captions[ENGLISH]):
        return "no English caption"
    return Stamp(stamp_id, picture, speech, captions[ENGLISH], captions.get(language, ""))
