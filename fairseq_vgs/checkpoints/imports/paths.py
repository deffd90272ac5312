"""What an import reads and writes, looked at before torch is imported."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.configs import config_dir
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.output import refuse_existing, try_output
from fairseq_vgs.files.packages import download_step
from fairseq_vgs.files.torch_files import named_errors, refuse_other_files

_FILES = (".pt", ".pth", ".bin")


class ImportFileError(FaultError):
    """A file of other code cannot be converted: unreadable, or not what it was said to be."""


def prepare_import(output: Path, *, force: bool) -> Path:
    """Return the absolute path of an import, if it may be written.

    Raises:
        OutputExistsError: it or its model group exists, without ``force``.
        FaultError: ``output.unwritable``.
        ImportFileError: ``import.name``: it is called as a model group of ours, which Hydra would take.
    """
    output = output.absolute()
    ours = sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))
    if output.stem in ours:
        expected = (
            f"must have another name than our model groups ({', '.join(ours)}), which model=NAME finds first"
        )
        step = f"call it {output.stem}-imported{output.suffix}, say"
        raise ImportFileError(fault(str(output), expected, output.stem, step, code="import.name"))
    written = (output, group_path(output))
    refuse_existing(*written, force=force)
    for path in written:
        try_output(path.parent, option="OUTPUT")
    return output


def require_bundle(bundle: Path) -> None:
    """Refuse a file that is missing or plainly of another kind.

    Raises:
        ImportFileError: ``file.missing``, ``checkpoint.kind`` or ``checkpoint.unreadable``.
    """
    with named_errors(bundle, error=ImportFileError):
        refuse_other_files(bundle, error=ImportFileError)


def require_wav2vec2(source: Path) -> None:
    """Refuse what is neither a checkpoint of fairseq nor a folder.

    Raises:
        ImportFileError: ``file.missing``, ``checkpoint.kind`` or ``checkpoint.unreadable``.
    """
    if source.is_dir():
        return
    if not source.exists() and source.suffix not in _FILES:
        expected = "must be a checkpoint of fairseq or a Hugging Face folder"
        raise ImportFileError(
            fault(str(source), expected, "neither", download_step(source), code="file.missing")
        )
    require_bundle(source)


def require_folder(backbone: Path) -> None:
    """Refuse an image backbone that is not there.

    Raises:
        ImportFileError: ``backbone.missing``.
    """
    if not backbone.is_dir():
        expected, step = "must be a local folder with config.json", download_step(backbone)
        raise ImportFileError(fault(str(backbone), expected, "no folder", step, code="backbone.missing"))


def require_export(folder: Path) -> None:
    """Refuse what is no folder with a configuration.

    Raises:
        ImportFileError: ``file.missing``.
    """
    if not (folder / "config.json").is_file():
        expected, step = "must be a local folder with config.json", download_step(folder)
        got = "none" if folder.is_dir() else "no folder"
        raise ImportFileError(fault(str(folder), expected, got, step, code="file.missing"))


def group_path(output: Path) -> Path:
    """Return where the model group of a checkpoint is written."""
    return output.parent / "model" / f"{output.stem}.yaml"
