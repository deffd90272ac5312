"""Where a study keeps its files.

```
OUTPUT/
  study.json             settings and plan
  study.lock             held while the study runs
  data/                  what ``prepare`` made (by the study file's choice)
  runs/<name>/
    command.json         what the run was started with
    log.txt              output of training and evaluation
    run/                 the run folder of fairseq-hydra-train: history.jsonl, checkpoints/, ...
    evaluation/          <updates>.json and .npz of every checkpoint
    trained.json         training is done
    evaluated.json       so is its evaluation
  results/               tables and figures
  report.html            the page
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Files of one run."""

    path: Path

    @property
    def run(self) -> Path:
        """Run folder of fairseq-hydra-train."""
        return self.path / "run"

    @property
    def evaluation(self) -> Path:
        """Figures of the checkpoints."""
        return self.path / "evaluation"

    @property
    def log(self) -> Path:
        """Output of training and evaluation."""
        return self.path / "log.txt"

    @property
    def command(self) -> Path:
        """What the run was started with."""
        return self.path / "command.json"

    @property
    def trained(self) -> Path:
        """Written when training is done."""
        return self.path / "trained.json"

    @property
    def evaluated(self) -> Path:
        """Written when the evaluation is done."""
        return self.path / "evaluated.json"

    @property
    def history(self) -> Path:
        """One line per update and validation."""
        return self.run / "history.jsonl"

    @property
    def probes(self) -> Path:
        """One line per cooperation probe."""
        return self.run / "probes.jsonl"


@dataclass(frozen=True)
class StudyFolder:
    """Files of a study."""

    path: Path

    @property
    def settings(self) -> Path:
        """Settings and plan."""
        return self.path / "study.json"

    @property
    def lock(self) -> Path:
        """Held while the study runs."""
        return self.path / "study.lock"

    @property
    def log(self) -> Path:
        """Output of ``prepare``."""
        return self.path / "prepare.log"

    @property
    def results(self) -> Path:
        """Tables and figures."""
        return self.path / "results"

    def run(self, name: str) -> RunFolder:
        """Files of one run."""
        return RunFolder(self.path / "runs" / name)

    def data(self, template: str) -> Path:
        """Fill in ``{output}``."""
        return Path(template.replace("{output}", str(self.path)))
