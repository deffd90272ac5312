"""The project's documents: their links, and the commands in their code blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from support.source_files import CHECKOUT

DOCUMENTS = [
    *sorted(CHECKOUT.glob("*.md")),
    *sorted(CHECKOUT.glob("docs/**/*.md")),
    *sorted(
        path for room in ("benchmarks", "examples", "manifests") for path in CHECKOUT.glob(f"{room}/**/*.md")
    ),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
SHELL_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONFIGS = "$(fairseq-vgs configs)"
VARIABLE = re.compile(r"\$\w+")


def named(path: Path) -> str:
    """Name a document as readers do."""
    return str(path.relative_to(CHECKOUT))


def links(path: Path) -> list[str]:
    """List the targets of a document's links within the repository."""
    text = CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if not re.match("[a-z]+:", link)]


def anchors(path: Path) -> set[str]:
    """List what links to the headings of a document are called."""
    text = CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(path: Path, program: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of a program; shell variables become ``0``."""
    for block in SHELL_BLOCK.findall(path.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removesuffix("&"), comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words and words[0] == program:
                yield [VARIABLE.sub("0", word.replace(CONFIGS, "examples/vgs")) for word in words[1:]]
