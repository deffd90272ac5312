"""Keep features in a folder that can be interrupted and continued, in the layout that fastabx reads.

``npy``: ``LAYER/NAME.npy``, ``speech_embedding/NAME.npy``, ``image_embedding/ID.npy``.
``safetensors``: ``speech/NAME.safetensors`` with all layers and the embedding of an utterance, and
``images/ID.safetensors``; frame rate and layer names are in each file's own metadata, too.
``metadata.json`` describes all of them; ``sources.json`` says which files each was made from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fairseq_vgs.files.atomic import atomic_write, write_array, write_text
from fairseq_vgs.files.faults import Fault, FaultError, fault, raise_any
from fairseq_vgs.files.location import MediaLocation, check_present
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.provenance import versions
from fairseq_vgs.files.texts import read_object
from fairseq_vgs.files.work import refuse_other_settings
from fairseq_vgs.options import refuse_unknown

FORMATS = ("npy", "safetensors")
METADATA_NAME = "metadata.json"
SOURCES_NAME = "sources.json"
SCHEMA_VERSION = 1

Kind = Literal["speech", "images"]
Origin = list[str | int]
"""What tells one state of an utterance's or image's files from another; plain data."""


def origins(media: Mapping[str, Sequence[MediaLocation]]) -> dict[str, Origin]:
    """Return what tells whether media have changed: place, size and modification time of each file.

    ``media`` maps a name to the files, or entries of archives, that it is made from.

    Raises:
        FaultError: every missing file.
    """
    found: dict[str, Origin] = {name: [] for name in media}
    faults: list[Fault] = []
    for name, location in ((name, location) for name, locations in media.items() for location in locations):
        try:
            check_present(location)
        except FaultError as error:
            faults += error.faults
            continue
        status = location.path.stat()
        place = replace(location, path=location.path.absolute())
        found[name] += [str(place), status.st_size, status.st_mtime_ns]
    raise_any(faults)
    return found


# Not a work folder (``files.work``), which appears once, when all is done, and is never added to: features
# are read while others are still computed, and a finished folder goes on when recordings were added or have
# changed. Its files are their own journal; what they were made from is in ``sources.json``.
class FeatureStore:
    """Write features file by file; what exists is complete, since files appear by renaming.

    The folder is new, empty, or was started with the same ``settings``, on which the values depend.
    ``description`` is further plain data for ``metadata.json``, and, as text, for safetensors files.

    Raises:
        FaultError: the folder holds something else, or a package is missing.
    """

    def __init__(
        self, folder: Path, file_format: str, *, settings: Mapping[str, Any], description: Mapping[str, Any]
    ) -> None:
        refuse_unknown("format", file_format, FORMATS)
        if file_format == "safetensors":
            _import_safetensors()
        self.folder = folder
        self.file_format = file_format
        self._content = {
            "schema_version": SCHEMA_VERSION,
            "kind": "features",
            "settings": {**settings, "format": file_format},
            **description,
        }
        self._text_metadata = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()
        }
        self._check_folder()

    def has(self, kind: Kind, name: str, keys: Collection[str]) -> bool:
        """Return whether the arrays ``keys`` of an utterance or image exist."""
        return all(path.is_file() for path in self._paths(kind, name, keys).values())

    def write(self, kind: Kind, name: str, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Write the arrays of an utterance or image; existing files are kept."""
        paths = self._paths(kind, name, arrays)
        if self.file_format == "npy":
            for key, path in paths.items():
                if not path.is_file():
                    write_array(path, arrays[key])
            return
        whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        with atomic_write(next(iter(paths.values())), mode="wb") as file:
            file.write(_import_safetensors().save(whole, metadata=self._text_metadata))

    def begin(self, kind: Kind, origins: Mapping[str, Origin], keys: Collection[str]) -> int:
        """Write ``metadata.json`` of incomplete features, and remove those made from other files.

        ``origins`` are those of each utterance or image that is to be written, ``keys`` the arrays of each.
        Returns how many had features that were made from other or unknown files.
        """
        self._write_metadata({"complete": False})
        before = self._read_origins()
        n_removed = 0
        for name, origin in origins.items():
            if before.get(kind, {}).get(name) != origin:
                found = [path for path in {*self._paths(kind, name, keys).values()} if path.is_file()]
                n_removed += bool(found)
                for path in found:
                    path.unlink()
        # After the removal, so that an interrupted one is repeated.
        content = {**before, kind: {**before.get(kind, {}), **origins}}
        write_text(self.folder / SOURCES_NAME, json.dumps(content, ensure_ascii=False), force=True)
        return n_removed

    def finish(self, counts: Mapping[str, int]) -> None:
        """Write ``metadata.json`` of complete features."""
        self._write_metadata({"complete": True, **counts})

    def _read_origins(self) -> dict[str, dict[str, Origin]]:
        path = self.folder / SOURCES_NAME
        if not path.exists():
            return {}
        step = "remove it to make all of them again"
        found = read_object(path, step)
        try:
            return {kind: dict(origins) for kind, origins in found.items()}
        except (ValueError, TypeError) as error:
            expected = "must say what features were made from"
            raise FaultError(fault(str(path), expected, error, step, code="features.sources")) from error

    def _paths(self, kind: Kind, name: str, keys: Collection[str]) -> dict[str, Path]:
        # Names may hold dots, so that endings are appended, never exchanged.
        if self.file_format == "npy":
            return {key: self.folder / key / f"{name}.npy" for key in keys}
        return dict.fromkeys(keys, self.folder / kind / f"{name}.safetensors")

    def _write_metadata(self, state: Mapping[str, Any]) -> None:
        text = json.dumps({**self._content, **state, "versions": versions()}, indent=2, ensure_ascii=False)
        write_text(self.folder / METADATA_NAME, text + "\n", force=True)

    def _check_folder(self) -> None:
        path = self.folder / METADATA_NAME
        step = "choose another folder, or remove it"
        if not path.exists():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                message = f"must be a new or empty folder, or one with {METADATA_NAME}; {step}"
                raise FaultError(Fault(str(self.folder), message, "features.folder"))
            return
        before = read_object(path, step, required=("settings",))["settings"]
        refuse_other_settings(self.folder, before, self._content["settings"], step=step)


def _import_safetensors() -> Any:
    return optional_package("safetensors.numpy", "interop", place="format safetensors")
