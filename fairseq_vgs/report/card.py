"""Model cards: what an exported model is, how it was trained and what it scores, from files alone.

What no file tells (language, licence, data) is asked for in one place, ``card.yaml``, and never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fairseq_vgs.checkpoints.exports.texts import example
from fairseq_vgs.checkpoints.load import Checkpoint, section
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
    "criterion": ("_name", "vgs_loss", "similarity", "alpha_schedule", "alpha_values", "alpha_boundaries"),
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


def find_results(checkpoint: Checkpoint, folders: Sequence[Path] = ()) -> list[Result]:
    """Return the results of a checkpoint: of the given folders, else of those next to it or to its run.

    Raises:
        ResultsError: a given folder holds none, or those of another checkpoint (``results.checkpoint``).
    """
    digest, path = sha256_file(checkpoint.path), checkpoint.path.absolute()
    if folders:
        found = [read_result(folder) for folder in folders]
        for result in found:
            if result.content["checkpoint"]["sha256"] != digest:
                message = f"must be results of {path.name}, are of another checkpoint; evaluate this one"
                raise ResultsError.at(result.path, message, "results.checkpoint")
        return found
    nearby = sorted({one for root in path.parents[:2] for one in root.glob(f"*/{METRICS_NAME}")})
    results = []
    for place in nearby:
        try:
            result = read_result(place)
        except ResultsError:  # of another program, or of another version
            continue
        if result.content.get("checkpoint", {}).get("sha256") == digest:
            results.append(result)
    return results


def model_card(
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    *,
    name: str,
    facts: Facts,
    results: Sequence[Result],
    plain: bool = False,
) -> str:
    """Return ``README.md``.

    Args:
        checkpoint: the model.
        settings: of the exported model.
        name: of the model.
        facts: what its authors say of it.
        results: of this checkpoint.
        plain: it is the speech encoder alone, as a ``Wav2Vec2Model``.
    """
    if plain:  # which cannot repeat what embeddings scored
        results = [result for result in results if not EVALUATORS[result.kind].needs_embeddings]
    where = facts.repository or name
    header = {
        "language": list(facts.language),
        "license": facts.license,
        "library_name": "transformers",
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
        settings=settings,
        code=code,
        n_updates=checkpoint.n_updates,
        facts=facts,
        procedure=procedure(checkpoint.config),
        started_from=_started_from(checkpoint.config),
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


def _started_from(config: Mapping[str, Any]) -> str | None:
    path = section(config, "checkpoint").get("finetune_from_model")
    return Path(str(path)).name if path else None
