"""Read YAML that others wrote: plain data, whose size is known before it is built."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from fairseq_vgs.files.texts import decode_text

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # with every alias written out
MAX_DEPTH = 32
_START = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_END = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def load_yaml(path: Path) -> Any:
    """Load a YAML file with OmegaConf, which writes out aliases and constructs plain data alone.

    Raises:
        OSError: It cannot be read.
        FaultError: ``file.encoding``.
        yaml.YAMLError: It is no YAML, or larger than any settings are.
        OmegaConfBaseException: It holds what OmegaConf does not.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise yaml.YAMLError(f"must have at most {MAX_BYTES:,} bytes")
    text = decode_text(content, str(path))
    _refuse_excess(text)
    return OmegaConf.load(io.StringIO(text))


def _refuse_excess(text: str) -> None:
    """Count nodes as if aliases were copies, and levels, without building anything."""
    open_sizes: list[int] = [0]
    anchors: list[str | None] = [None]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, _START):
            open_sizes.append(1)
            anchors.append(event.anchor)
        elif isinstance(event, _END):
            size, anchor = open_sizes.pop(), anchors.pop()
            sizes |= {anchor: size} if anchor else {}
            open_sizes[-1] += size
        elif isinstance(event, yaml.ScalarEvent):
            sizes |= {event.anchor: 1} if event.anchor else {}
            open_sizes[-1] += 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"alias *{event.anchor} must follow its anchor, and not be inside of it")
            open_sizes[-1] += sizes[event.anchor]
        if open_sizes[-1] > MAX_NODES or len(open_sizes) > MAX_DEPTH:
            expected = f"must have at most {MAX_NODES:,} values, aliases written out, and {MAX_DEPTH} levels"
            raise yaml.YAMLError(f"{expected}, got more")
