"""Model cards: what an exported model is, how it was trained and what it scores, from files alone.

What no file tells (language, licence, data) is asked for in one place, ``card.yaml``, and never guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fairseq_vgs.checkpoints.exports.texts import example
from fairseq_vgs.checkpoints.load import Checkpoint, section
from fairseq_vgs.checkpoints.phases import Phases
from fairseq_vgs.checkpoints.places import RESULTS
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.results import METRICS_NAME, Result, ResultsError, read_result
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.files.yaml_files import load_yaml
from fairseq_vgs.report.page import render_text

TASKS = {  # beginning of a metric's name -> task of the model index
    "speech_to_image": ("speech-to-image-retrieval", "Speech-to-image retrieval"),
    "image_to_speech": ("image-to-speech-retrieval", "Image-to-speech retrieval"),
}
OTHER_TASKS = {"abx": ("phone-discrimination", "Phone discrimination (ABX)")}
_PROCEDURE = {
    "criterion": ("_name", "vgs_loss", "similarity"),
    "optimization": ("max_update", "lr", "update_freq"),
    "dataset": ("batch_size", "max_tokens", "train_subset", "valid_subset"),
    "common": ("seed",),
}
_STEP = "correct the file; docs/share.md describes its keys"


@dataclass(frozen=True)
class Facts:
    """What a model's authors say of it; each ``None``, or empty, until they do.

    Attributes:
        language: codes such as ``en``, of the speech.
        license: of the weights, by its name on the Hugging Face hub.
        repository: ``user/name`` on the hub, for the lines of code that load the model.
        revision: of the repository, which those lines pin.
        data: what it was trained on: ``name`` and, if known, ``hours``, ``speakers``, ``license``, ``url``.
        uses: what it is for.
        not_for: what it must not be used for.
        limits: what is known not to work.
        citation: BibTeX or text.
        command: what trained it.
    """

    language: Sequence[str] = ()
    license: str | None = None
    repository: str | None = None
    revision: str | None = None
    data: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    uses: str | None = None
    not_for: str | None = None
    limits: str | None = None
    citation: str | None = None
    command: str | None = None

    @property
    def missing(self) -> list[str]:
        """Keys of what readers need, and nothing has been said about."""
        needed = ("language", "license", "data", "not_for", "limits", "citation")
        return [name for name in needed if not getattr(self, name)]


def read_facts(path: Path) -> Facts:
    """Read ``card.yaml``.

    Raises:
        FaultError: ``card.file``, it cannot be read as settings by name; ``card.key``; ``card.value``.
    """
    try:
        from omegaconf import OmegaConf

        content: Any = OmegaConf.to_container(load_yaml(path), resolve=False)
    except FaultError:
        raise
    except Exception as error:
        got = " ".join(str(error).split())
        raise FaultError(fault(str(path), "must be a YAML file", got, _STEP, code="card.file")) from error
    if not isinstance(content, dict):
        raise FaultError(fault(str(path), "must hold settings by name", content, _STEP, code="card.file"))
    known = list(vars(Facts()))
    if unknown := [str(key) for key in content if key not in known]:
        expected = f"keys must be of {', '.join(known)}"
        raise FaultError(fault(str(path), expected, key, _STEP, code="card.key") for key in unknown)
    content = {key: value for key, value in content.items() if value is not None}
    if isinstance(language := content.get("language"), str):
        content["language"] = [language]
    if not all(isinstance(one, str) for one in content.get("language", [])) or isinstance(language, dict):
        expected = "language must be a list of codes such as en"
        raise FaultError(fault(str(path), expected, language, _STEP, code="card.value"))
    data = content.get("data", [])
    if not isinstance(data, list) or not all(isinstance(one, dict) and one.get("name") for one in data):
        expected = "data must be a list of sets, each with a name"
        raise FaultError(fault(str(path), expected, data, _STEP, code="card.value"))
    for key in set(known) - {"language", "data"}:
        if not isinstance(content.get(key, ""), str):
            expected = f"{key} must be text"
            raise FaultError(fault(str(path), expected, content[key], _STEP, code="card.value"))
    return Facts(**content)


def find_results(
    checkpoint: Checkpoint, folders: Sequence[Path] = (), *, exported: Path | None = None
) -> list[Result]:
    """Return the results of a checkpoint.

    They are those of the given folders or, of a folder without ``metrics.json``, of the folders in it. If
    none is given, they are looked for next to the checkpoint, in its run, next to its run, and in the working
    directory and its folder ``results``.

    Given ones may also be of the weights that an earlier export wrote to ``exported``.

    Raises:
        ResultsError: a given folder holds none, or those of another checkpoint (``results.checkpoint``).
    """
    digest, path = sha256_file(checkpoint.path), checkpoint.path.absolute()
    if folders:
        digests = [digest, *([sha256_file(exported)] if exported and exported.is_file() else [])]
        return [result for folder in folders for result in _given(folder, digests, path.name)]
    found: dict[str, Result] = {}
    places = [*path.parents[:3], Path().absolute(), RESULTS.absolute()]
    nearby = [one for root in places for one in root.glob(f"*/{METRICS_NAME}")]
    for result in _of_checkpoint(sorted(dict.fromkeys(nearby)), [digest]):
        content = {key: value for key, value in result.content.items() if key != "provenance"}
        found.setdefault(json.dumps(content, sort_keys=True, default=str), result)  # one of equal copies
    return list(found.values())


def _given(folder: Path, digests: Sequence[str], name: str) -> list[Result]:
    if not (folder / METRICS_NAME).is_file() and (inside := sorted(folder.glob(f"*/{METRICS_NAME}"))):
        if found := list(_of_checkpoint(inside, digests)):
            return found
        folder = inside[0]
    result = read_result(folder)
    _require_of(result, digests, name)
    return [result]


def _require_of(result: Result, digests: Sequence[str], name: str) -> None:
    if result.content.get("checkpoint", {}).get("sha256") not in digests:
        message = f"must be results of {name}, are of another checkpoint; evaluate this one"
        raise ResultsError.at(result.path, message, "results.checkpoint")


def _of_checkpoint(places: Iterable[Path], digests: Sequence[str]) -> Iterator[Result]:
    for place in places:
        try:
            result = read_result(place)
        except ResultsError:  # of another program, or of another version
            continue
        if result.content.get("checkpoint", {}).get("sha256") in digests:
            yield result


def model_card(
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    weights_sha256: str,
    *,
    name: str,
    facts: Facts,
    phases: Phases,
    results: Sequence[Result],
    plain: bool = False,
    half: bool = False,
    bare: bool = False,
) -> str:
    """Return ``README.md``.

    Args:
        checkpoint: the model.
        settings: of the exported model.
        weights_sha256: of the file with its weights.
        name: of the model.
        facts: what its authors say of it.
        phases: of its training.
        results: of this checkpoint, or of the weights as they are stored.
        plain: it is the speech encoder alone, as a ``Wav2Vec2Model``.
        half: its weights are stored in half precision.
        bare: it is for this package alone.

    Raises:
        ResultsError: ``results.checkpoint``: results of weights that an earlier export wrote, and not this.
    """
    digests = [sha256_file(checkpoint.path), weights_sha256]
    for result in results:
        _require_of(result, digests, checkpoint.path.name)
    if plain:  # which cannot repeat what embeddings scored
        results = [result for result in results if not EVALUATORS[result.kind].needs_embeddings]
    where = facts.repository or name
    header = {
        "language": list(facts.language),
        "license": facts.license,
        "library_name": "fairseq_vgs" if bare else "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": ["speech", "wav2vec2", "visually-grounded-speech", *([] if plain else ["image-retrieval"])],
        "datasets": [str(one["hub"]) for one in facts.data if one.get("hub")],
        "model-index": model_index(name, results),
    }
    code = example(settings, folder=f'"{where}"', wav='"speech.wav"', jpg='"picture.jpg"')
    if facts.revision:
        code = code.replace("trust_remote_code=True", f'trust_remote_code=True, revision="{facts.revision}"')
    return render_text(
        "card.md.j2",
        header=yaml.safe_dump(
            {key: value for key, value in header.items() if value}, sort_keys=False, allow_unicode=True
        ),
        name=name,
        where=where,
        plain=plain,
        half=half,
        bare=bare,
        weights_sha256=weights_sha256,
        settings=settings,
        code=code,
        version=checkpoint.version,
        facts=facts,
        procedure=procedure(checkpoint.config),
        phases=phases,
        evaluations=[_evaluation(result) for result in results],
    )


def _evaluation(result: Result) -> dict[str, Any]:
    """Return what was measured, line by line, and the table of values."""
    evaluator, pool = EVALUATORS[result.kind](), result.content.get("pool")
    lines = [line.strip() for line in evaluator.describe(result.content)]
    if isinstance(pool, Mapping) and pool.get("ties"):
        lines.append(f"ties: {pool['ties']}")
    lines += [f"note: {note}" for note in result.content.get("notes", [])]
    return {"split": result.content["split"], "lines": lines, "table": evaluator.table(result)}


def model_index(name: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the ``model-index`` of a card: values of the evaluated model, by task and data."""
    entries = []
    for result in results:
        data = Path(str(result.content["data"])).name
        dataset = {"type": data.lower().replace(" ", "-"), "name": data, "split": result.content["split"]}
        tasks: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for metric, found in result.models[result.evaluated].items():
            if found.is_certain or not math.isfinite(found.value.value):
                continue
            task = next((TASKS[start] for start in TASKS if metric.startswith(start)), None)
            task = task or OTHER_TASKS.get(result.kind, (result.kind, result.kind))
            unit = f", {found.unit}" if found.unit else ""
            entry = {"type": metric, "name": f"{metric}{unit}", "value": round(found.value.value, 4)}
            tasks.setdefault(task, []).append(entry)
        entries += [
            {"task": {"type": kind, "name": title}, "dataset": dict(dataset), "metrics": metrics}
            for (kind, title), metrics in tasks.items()
        ]
    return [{"name": name, "results": entries}] if entries else []


def procedure(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the training that a reader asks for first, those that are set."""
    found = {}
    for part, keys in _PROCEDURE.items():
        values = section(config, part)
        found.update({f"{part}.{key}": values[key] for key in keys if values.get(key) not in (None, [], "")})
    return found
