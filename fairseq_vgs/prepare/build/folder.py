"""Build a data folder from a corpus: check every recording and picture, convert, pack and write tables.

The work survives interruptions (``fairseq_vgs.files.work``). The folder gets its name when it is complete.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fairseq_vgs.files.faults import Fault, FaultError, raise_any
from fairseq_vgs.files.output import refuse_output
from fairseq_vgs.files.parallel import Progress
from fairseq_vgs.files.work import WorkFolder, open_work
from fairseq_vgs.media.encode import resampler
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.prepare.build.media import Finished, MediaBuilder, Seen, survey
from fairseq_vgs.prepare.build.medium import PICTURES, SPEECH, Medium, UnusableMedium
from fairseq_vgs.prepare.build.options import ALWAYS, AUTO, BuildOptions
from fairseq_vgs.prepare.build.tables import Built, summarize, write_folder, write_summary
from fairseq_vgs.prepare.corpus import Corpus, Exclusions, corpus_faults, path_problem
from fairseq_vgs.regions.store import PARTIAL_NAMES

logger = logging.getLogger(__name__)

LEFT_OUT_PICTURE = "recording of a picture that is left out"

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

    Args:
        corpus: From a reader.
        output: The folder to make.
        options: How to build it.
        faults: Of the corpus' lists, found by its reader.
        progress: Called with (files done, files in all); every file counts for each pass over it.
        command: For the summary.
        settings: The corpus' own options, for the summary.
        inputs: Lists and folders that the corpus was read from, besides its roots.
        arrange: See ``Arrange``.
        finish: See ``Finish``.

    Raises:
        FaultError: All faults of lists, names and media. ``output`` is not made; finished work is kept for
            the next run.
    """
    maker = corpus.name
    refuse_output(output, maker=maker, force=options.force, inputs=_all_inputs(corpus, options, inputs))
    listed = _listed_faults(corpus, options, faults, needs_splits=arrange is None)
    n_looks = 3 if options.regions is not None else 2
    steps = _Steps(progress, total=2 * len(corpus.captions) + n_looks * len(corpus.pictures))
    exclusions = Exclusions({reason: list(names) for reason, names in corpus.excluded.items()})
    plan = _plan(corpus, options, listed, steps)
    with open_work(output, plan.key(), maker=maker, force=options.force) as work:
        built = _build_media(plan, work, exclusions, steps)
        if arrange is not None:
            prints = [
                {path: item.sha256 for path, item in done.items()} for done in (built.speech, built.pictures)
            ]
            built = replace(built, corpus=arrange(built.corpus, *prints))
        work.clear(keep=(SPEECH, PICTURES, *(PARTIAL_NAMES if options.regions is not None else ())))
        write_folder(work.data, output, built, relative_root=options.relative_root)
        regions = _compute_regions(corpus, built, work, options, steps)
        summary = {
            "corpus": corpus.name,
            "command": command,
            "settings": {name: getattr(options, name) for name in SUMMARIZED} | dict(settings or {}),
            **summarize(built),
            "resampler": resampler() if plan.converts else None,
            "excluded": exclusions.summary(),
            "checksums": dict(corpus.checksums),
            **regions,
            **(finish(work.data) if finish is not None else {}),
        }
        write_summary(work.data, summary, force=True)
        work.publish(output.absolute(), maker=maker, force=options.force)
    return summary


def _all_inputs(corpus: Corpus, options: BuildOptions, inputs: Iterable[Path]) -> Iterator[Path]:
    """Yield everything that the folder is made from: roots, lists and media."""
    yield from (corpus.audio_root, corpus.image_root, *inputs)
    if options.regions is not None and options.regions.boxes is not None:
        yield options.regions.boxes
    for root, paths in (
        (corpus.audio_root, (caption.audio for caption in corpus.captions)),
        (corpus.image_root, (picture.path for picture in corpus.pictures)),
    ):
        yield from (root / path for path in paths if not path_problem(path))


def _listed_faults(
    corpus: Corpus, options: BuildOptions, faults: Sequence[Fault], *, needs_splits: bool
) -> tuple[Fault, ...]:
    """Return the faults found before any media are checked; raise them if no media can be."""
    found = list(faults)
    if corpus.captions or not faults:
        found += corpus_faults(corpus, needs_splits=needs_splits)
    if options.regions is not None:
        if not corpus.pictures:
            found.append(
                Fault(
                    "--regions",
                    "needs pictures to compute them from, got none; give --images",
                    code="setting.conflict",
                )
            )
        images = [(picture.image_id, picture.place or picture.path) for picture in corpus.pictures]
        found += options.regions.faults(images)
    roots = {corpus.audio_root, *((corpus.image_root,) if corpus.pictures else ())}
    if not corpus.captions or not all(root.is_dir() for root in roots):
        raise_any(found)
    return tuple(found)


@dataclass(frozen=True)
class _Plan:
    """The media that exist, how they are stored, and the faults so far."""

    corpus: Corpus
    options: BuildOptions
    faults: Sequence[Fault]
    missing: Sequence[UnusableMedium]
    converts: bool
    speech: Sequence[Medium]
    pictures: Sequence[Medium]
    seen_speech: Mapping[str, Seen]
    seen_pictures: Mapping[str, Seen]

    def key(self) -> dict[str, object]:
        """Return everything that finished media depend on."""
        return {
            "roots": [str(root.absolute()) for root in (self.corpus.audio_root, self.corpus.image_root)],
            "converts": self.converts,
            "resampler": resampler() if self.converts else "",
            "pack": self.options.pack,
            "shard_bytes": self.options.shard_bytes,
        }


class _Steps:
    """Count the files of several passes as one progress."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def next(self, size: int) -> Progress:
        """Return the progress of the next pass over ``size`` files."""
        before = self._done
        self._done += size

        def advance(done: int, _: int) -> None:
            if self._progress is not None:
                self._progress(before + done, self._total)

        return advance


def _plan(corpus: Corpus, options: BuildOptions, faults: Sequence[Fault], steps: _Steps) -> _Plan:
    speech = [Medium(SPEECH, caption.audio, caption.audio, caption.place) for caption in corpus.captions]
    pictures = [Medium(PICTURES, item.path, item.path, item.place) for item in corpus.pictures]
    if faults:
        # Files outside the roots are never opened.
        speech, pictures = (
            [medium for medium in media if not path_problem(medium.path)] for media in (speech, pictures)
        )
    rates = options.convert == AUTO
    seen_speech, missing_speech = survey(
        corpus.audio_root, speech, rates=rates, jobs=options.jobs, progress=steps.next(len(speech))
    )
    seen_pictures, missing_pictures = survey(
        corpus.image_root, pictures, rates=False, jobs=options.jobs, progress=steps.next(len(pictures))
    )
    for root, media, problems in (
        (corpus.audio_root, speech, missing_speech),
        (corpus.image_root, pictures, missing_pictures),
    ):
        if media and len(problems) == len(media):
            expected = f"must hold the {len(media)} files that the corpus lists, the first being"
            step = "correct the folder"
            got = Fault(
                str(root), f"{expected} {media[0].path!r}, got none of them; {step}", code="file.missing"
            )
            raise FaultError([*faults, got])
    missing = [*missing_speech, *missing_pictures]
    _announce([*faults, *([] if options.skip_bad else [problem.fault() for problem in missing])])
    found = {look.rate for look in seen_speech.values()} - {None, SAMPLE_RATE}
    converts = options.convert == ALWAYS or (rates and bool(found))
    if options.relative_root and not converts and not options.pack:
        expected = "--relative-root: needs recordings in the folder itself, got recordings that stay in place"
        got = Fault(
            str(corpus.audio_root), f"{expected}; add --convert always or --pack", code="setting.conflict"
        )
        raise FaultError([*faults, got])
    speech = [medium for medium in speech if medium.path in seen_speech]
    return _Plan(
        corpus,
        options,
        faults,
        missing,
        converts,
        _as_flac(speech) if converts else speech,
        [medium for medium in pictures if medium.path in seen_pictures],
        seen_speech,
        seen_pictures,
    )


def _announce(faults: Sequence[Fault]) -> None:
    """Log the first fault now: all are listed only after every file was checked, which may take hours."""
    if faults:
        more = f" and {len(faults) - 1:,} more" if len(faults) > 1 else ""
        logger.warning("%s%s; checking all other files before listing everything", faults[0], more)


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


def _build_media(plan: _Plan, work: WorkFolder, exclusions: Exclusions, steps: _Steps) -> Built:
    options, corpus = plan.options, plan.corpus
    builder = MediaBuilder(
        work, converts=plan.converts, pack=options.pack, shard_bytes=options.shard_bytes, jobs=options.jobs
    )
    speech, bad_speech = builder.run(
        SPEECH, corpus.audio_root, plan.speech, seen=plan.seen_speech, progress=steps.next(len(plan.speech))
    )
    progress = steps.next(len(plan.pictures))
    pictures, bad_pictures = (
        builder.run(PICTURES, corpus.image_root, plan.pictures, seen=plan.seen_pictures, progress=progress)
        if plan.pictures
        else ({}, [])
    )
    if builder.n_reused:
        logger.info("%d files were finished by an earlier run", builder.n_reused)
    _report([*plan.missing, *bad_speech, *bad_pictures], plan, exclusions)
    usable = _usable(corpus, speech, pictures, exclusions)
    used_speech = {caption.audio: speech[caption.audio] for caption in usable.captions}
    used_pictures = {picture.path: pictures[picture.path] for picture in usable.pictures}
    return Built(
        usable,
        used_speech,
        used_pictures,
        entries={
            kind: builder.store(kind, used.values())
            for kind, used in ((SPEECH, used_speech), (PICTURES, used_pictures))
        },
        converts=plan.converts,
        pack=options.pack,
        n_reused=builder.n_reused,
    )


def _report(problems: Sequence[UnusableMedium], plan: _Plan, exclusions: Exclusions) -> None:
    """Raise all faults; note unusable media if they are left out."""
    raise_any([*plan.faults, *([] if plan.options.skip_bad else [problem.fault() for problem in problems])])
    for problem in problems:
        exclusions.add(problem.reason, problem.medium.path)


def _compute_regions(
    corpus: Corpus, built: Built, work: WorkFolder, options: BuildOptions, steps: _Steps
) -> dict[str, object]:
    """Compute region features if asked for; return what to add to the summary."""
    if options.regions is None:
        return {}
    kept = {picture.image_id for picture in built.corpus.pictures}
    left_out = {picture.image_id for picture in corpus.pictures} - kept
    progress = steps.next(len(kept))
    regions = options.regions.compute(work.data, left_out=left_out, jobs=options.jobs, progress=progress)
    return {"regions": regions}


def _usable(
    corpus: Corpus,
    speech: Mapping[str, Finished],
    pictures: Mapping[str, Finished],
    exclusions: Exclusions,
) -> Corpus:
    kept = [picture for picture in corpus.pictures if picture.path in pictures]
    lost = {picture.image_id for picture in corpus.pictures} - {picture.image_id for picture in kept}
    captions = []
    for caption in corpus.captions:
        if caption.audio in speech:
            if caption.image in lost:
                exclusions.add(LEFT_OUT_PICTURE, caption.audio)
            else:
                captions.append(caption)
    if not captions:
        message = f"must hold a usable recording, got none; left out {exclusions.listing()}"
        raise FaultError(Fault(str(corpus.audio_root), message, "recording.missing"))
    return replace(corpus, captions=captions, pictures=kept)
