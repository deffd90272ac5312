"""Build a data folder from a corpus: check every recording and picture, convert, pack and write tables.

The work survives interruptions (``fairseq_vgs.files.work``). The folder gets its name when it is complete.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.output import refuse_output
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.work import WorkFolder, open_work
from fairseq_vgs.media.encode import resampler
from fairseq_vgs.media.pictures import say_first_frames
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.prepare.build.media import Finished, MediaBuilder, Seen, survey
from fairseq_vgs.prepare.build.options import ALWAYS, AUTO, BuildOptions
from fairseq_vgs.prepare.build.split import SPLITS
from fairseq_vgs.prepare.build.tables import Built, shared_by_splits, summarize, write_folder, write_summary
from fairseq_vgs.prepare.corpus import (
    PICTURES,
    SPEECH,
    Corpus,
    Exclusions,
    Medium,
    UnusableMedium,
    as_on_disk,
    corpus_faults,
    path_problem,
)
from fairseq_vgs.regions.store import PARTIAL_NAMES

logger = logging.getLogger(__name__)

LEFT_OUT_PICTURE = "recording of a picture that is left out"

OTHERS_CONVERTED = f"at {SAMPLE_RATE} Hz already, because others are not"

SUMMARIZED = ("convert", "pack", "skip_bad", "relative_root")

# Gets the corpus without what is left out and the SHA-256 of every recording and picture by path; returns it
# with splits and groups.
Arrange = Callable[[Corpus, Mapping[str, str], Mapping[str, str]], Corpus]
# Adds files to the folder before it gets its name; returns what to add to the summary.
Finish = Callable[[Path], Mapping[str, object]]


def build_folder(
    corpus: Corpus,
    output: Path,
    *,
    options: BuildOptions,
    faults: Sequence[Fault] = (),
    progress: Progress | None = None,
    command: str = "",
    settings: Mapping[str, object] | None = None,
    inputs: Iterable[Path] = (),
    arrange: Arrange | None = None,
    finish: Finish | None = None,
) -> dict[str, object]:
    """Build a data folder and return its summary.

    Faulty entries and missing files do not stop the others from being checked: one run lists everything.
    ``faults`` are those of the corpus' lists, ``inputs`` lists and folders that it was read from, besides its
    roots; ``command`` and the corpus' own ``settings`` are for the summary. ``progress`` is called with
    (files done, files in all), where every file counts for each pass over it.

    Raises:
        FaultError: All faults of lists, names and media. ``output`` is not made; finished work is kept for
            the next run.
    """
    corpus, maker = as_on_disk(corpus), corpus.name
    refuse_output(output, maker=maker, force=options.force, inputs=_all_inputs(corpus, options, inputs))
    listed = _listed_faults(corpus, options, faults, needs_splits=arrange is None)
    n_looks = 3 if options.regions is not None else 2
    steps = _Steps(progress, total=2 * len(corpus.captions) + n_looks * len(corpus.pictures))
    exclusions = Exclusions({reason: list(names) for reason, names in corpus.excluded.items()})
    plan = _plan(corpus, options, listed, steps)
    # Everything that finished media depend on.
    key = {
        "roots": [str(root.absolute()) for root in corpus.roots.values()],
        "converts": plan.converts,
        "resampler": resampler() if plan.converts else "",
        "pack": options.pack,
        "shard_bytes": options.shard_bytes,
    }
    with open_work(output, key, maker=maker, force=options.force) as work:
        built = _build_media(corpus, options, plan, work, exclusions, steps)
        if arrange is not None:
            prints = [
                {path: item.sha256 for path, item in done.items()} for done in (built.speech, built.pictures)
            ]
            built = replace(built, corpus=arrange(built.corpus, *prints))
        raise_any(_splits_without_pairs(built.corpus))
        work.clear(keep=(SPEECH, PICTURES, *(PARTIAL_NAMES if options.regions is not None else ())))
        write_folder(work.data, output, built, relative_root=options.relative_root)
        regions = _compute_regions(corpus, built, work, options, steps)
        say_first_frames([path for path, item in built.pictures.items() if item.is_animated])
        if any((shared := shared_by_splits(built)).values()):
            logger.warning(
                "splits share %(recordings)d recordings and %(pictures)d pictures of the same content: "
                "fairseq-vgs check lists them",
                shared,
            )
        summary = {
            "corpus": corpus.name,
            "command": command,
            **options.typed,
            "settings": {name: getattr(options, name) for name in SUMMARIZED} | dict(settings or {}),
            **summarize(built),
            "resampler": resampler() if plan.converts else None,
            "converted": _conversions(built, options, plan) if plan.converts else {},
            "excluded": exclusions.summary(),
            "checksums": dict(corpus.checksums),
            **regions,
            **(finish(work.data) if finish is not None else {}),
        }
        write_summary(work.data, summary, force=True)
        work.publish(output.absolute(), maker=maker, force=options.force)
    return summary


def _splits_without_pairs(corpus: Corpus) -> Iterator[Fault]:
    """Yield the standard splits of recordings alone, which training and evaluation could not read."""
    paired = {caption.split for caption in corpus.captions if caption.image}
    alone = [split for split in SPLITS if split in {caption.split for caption in corpus.captions} - paired]
    for split in alone if corpus.pictures else ():
        expected = f"split {split!r} must have recordings with a picture, as others do"
        step = "name pictures there, give it another name, or divide with another --seed"
        yield fault(corpus.name, expected, "none", step, code="split.unpaired")


def _conversions(built: Built, options: BuildOptions, plan: _Plan) -> dict[str, int]:
    """Count converted recordings by what made them so."""
    if options.convert == ALWAYS:
        return {"--convert always": len(built.speech)}
    rates = Counter(plan.seen[SPEECH][path].rate for path in built.speech)
    return {
        f"at {rate} Hz" if rate not in (None, SAMPLE_RATE) else OTHERS_CONVERTED: n
        for rate, n in sorted(rates.items(), key=lambda pair: (pair[0] in (None, SAMPLE_RATE), pair[0] or 0))
    }


def _all_inputs(corpus: Corpus, options: BuildOptions, inputs: Iterable[Path]) -> Iterator[Path]:
    """Yield everything that the folder is made from: roots, lists and media."""
    yield from (*corpus.roots.values(), *inputs)
    if options.regions is not None and options.regions.boxes is not None:
        yield options.regions.boxes
    media = corpus.media
    for kind, root in corpus.roots.items():
        yield from (root / item.path for item in media[kind] if not path_problem(item.path))


def _listed_faults(
    corpus: Corpus, options: BuildOptions, faults: Sequence[Fault], *, needs_splits: bool
) -> tuple[Fault, ...]:
    """Return the faults found before any media are checked; raise them if no media can be."""
    found = list(faults)
    # A file that cannot be read lists nothing: that is not a second fault.
    if corpus.captions or not faults:
        found += corpus_faults(corpus, needs_splits=needs_splits)
    if options.regions is not None:
        if not corpus.pictures:
            message = "needs pictures to compute them from, got none; give --images"
            found.append(Fault("--regions", message, "setting.conflict"))
        images = [(picture.image_id, picture.place or picture.path) for picture in corpus.pictures]
        found += options.regions.faults(images)
    roots = {corpus.audio_root, *((corpus.image_root,) if corpus.pictures else ())}
    if not corpus.captions or not all(root.is_dir() for root in roots):
        raise_any(found)
    return tuple(found)


@dataclass(frozen=True)
class _Plan:
    """The media that exist, by kind, how they are stored, and the faults so far."""

    media: Mapping[str, Sequence[Medium]]
    seen: Mapping[str, Mapping[str, Seen]]
    missing: Sequence[UnusableMedium]
    converts: bool
    faults: Sequence[Fault]


@dataclass
class _Steps:
    """Count the files of several passes as one progress."""

    progress: Progress | None
    total: int
    done: int = 0

    def next(self, size: int) -> Progress:
        """Return the progress of the next pass over ``size`` files."""
        before = self.done
        self.done += size

        def advance(done: int, _: int) -> None:
            if self.progress is not None:
                self.progress(before + done, self.total)

        return advance


def _plan(corpus: Corpus, options: BuildOptions, faults: Sequence[Fault], steps: _Steps) -> _Plan:
    media = corpus.media
    seen: dict[str, dict[str, Seen]] = {}
    missing: list[UnusableMedium] = []
    for kind, root in corpus.roots.items():
        if faults:
            # Files outside the roots are never opened.
            media[kind] = [item for item in media[kind] if not path_problem(item.path)]
        rates = kind == SPEECH and options.convert == AUTO
        progress = steps.next(len(media[kind]))
        seen[kind], problems = survey(root, media[kind], rates=rates, jobs=options.jobs, progress=progress)
        if problems and len(problems) == len(media[kind]):
            expected = f"must hold the {len(problems)} files that the corpus lists, the first being"
            message = f"{expected} {media[kind][0].path!r}, got none of them; correct the folder"
            raise FaultError([*faults, Fault(str(root), message, "file.missing")])
        missing += problems
        media[kind] = [item for item in media[kind] if item.path in seen[kind]]
    _announce([*faults, *([] if options.skip_bad else [problem.fault() for problem in missing])])
    converts = options.convert == ALWAYS or bool(
        {look.rate for look in seen[SPEECH].values()} - {None, SAMPLE_RATE}
    )
    if options.relative_root and not converts and not options.pack:
        expected = "--relative-root: needs recordings in the folder itself, got recordings that stay in place"
        message = f"{expected}; add --convert always or --pack"
        raise FaultError([*faults, Fault(str(corpus.audio_root), message, "setting.conflict")])
    if converts:
        media[SPEECH] = _as_flac(media[SPEECH])
    return _Plan(media, seen, missing, converts, faults)


def _announce(faults: Sequence[Fault]) -> None:
    """Log the first fault now: all are listed only after every file was checked, which may take hours."""
    if faults:
        count = f"{len(faults):,} faults, the first" if len(faults) > 1 else "a fault"
        logger.warning("found %s; checking all other files before listing everything: %s", count, faults[0])


def _as_flac(speech: Sequence[Medium]) -> list[Medium]:
    """Name converted recordings: replace the suffix, or append it where two names would collide.

    Names do not depend on the order, and never equal a folder of other recordings.
    """
    names = {medium.path: str(PurePosixPath(medium.path).with_suffix(".flac")) for medium in speech}
    folders = {str(folder) for path in names for folder in PurePosixPath(path).parents}
    uses = Counter(names.values())
    taken = folders | {name for name, count in uses.items() if count == 1}
    for path in sorted(path for path, name in names.items() if uses[name] > 1 or name in folders):
        name = f"{path}.flac"
        while name in taken:
            name += ".flac"
        taken.add(name)
        names[path] = name
    return [replace(medium, target=names[medium.path]) for medium in speech]


def _build_media(
    corpus: Corpus,
    options: BuildOptions,
    plan: _Plan,
    work: WorkFolder,
    exclusions: Exclusions,
    steps: _Steps,
) -> Built:
    builder = MediaBuilder(work, options, converts=plan.converts)
    done: dict[str, dict[str, Finished]] = {SPEECH: {}, PICTURES: {}}
    problems = list(plan.missing)
    for kind, media in plan.media.items():
        if media:
            progress = steps.next(len(media))
            done[kind], bad = builder.run(
                kind, corpus.roots[kind], media, seen=plan.seen[kind], progress=progress
            )
            problems += bad
    if builder.n_reused:
        logger.info("%d files were finished by an earlier run", builder.n_reused)
    raise_any([*plan.faults, *([] if options.skip_bad else [problem.fault() for problem in problems])])
    for problem in problems:
        exclusions.add(problem.reason, problem.medium.path)
    usable = _usable(corpus, done[SPEECH], done[PICTURES], exclusions)
    speech = {caption.audio: done[SPEECH][caption.audio] for caption in usable.captions}
    pictures = {picture.path: done[PICTURES][picture.path] for picture in usable.pictures}
    entries = {
        kind: builder.store(kind, used.values()) for kind, used in ((SPEECH, speech), (PICTURES, pictures))
    }
    sizes = builder.n_reused, builder.n_read, builder.bytes_read
    return Built(usable, speech, pictures, entries, plan.converts, options.pack, *sizes)


def _compute_regions(
    corpus: Corpus, built: Built, work: WorkFolder, options: BuildOptions, steps: _Steps
) -> dict[str, object]:
    """Compute region features if asked for; return what to add to the summary."""
    if options.regions is None:
        return {}
    kept = {picture.image_id for picture in built.corpus.pictures}
    left_out = {picture.image_id for picture in corpus.pictures} - kept
    progress = steps.next(len(kept))
    regions = options.regions.compute(
        work.data, left_out=left_out, jobs=options.jobs, force=True, progress=progress
    )
    return {"regions": regions}


def _usable(
    corpus: Corpus, speech: Mapping[str, Finished], pictures: Mapping[str, Finished], exclusions: Exclusions
) -> Corpus:
    kept = [picture for picture in corpus.pictures if picture.path in pictures]
    lost = {picture.image_id for picture in corpus.pictures} - {picture.image_id for picture in kept}
    captions = [caption for caption in corpus.captions if caption.audio in speech]
    for caption in captions:
        if caption.image in lost:
            exclusions.add(LEFT_OUT_PICTURE, caption.audio)
    captions = [caption for caption in captions if caption.image not in lost]
    if not captions:
        message = f"must hold a usable recording, got none; left out {exclusions.listing()}"
        raise FaultError.at(corpus.audio_root, message, "recording.missing")
    return replace(corpus, captions=captions, pictures=kept)
