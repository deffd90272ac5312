"""Documents are of a readable size, their links lead somewhere, and their commands exist."""

import shlex

import pytest
from support.documents import DOCUMENTS, anchors, commands, links, named
from support.source_files import CHECKOUT, PACKAGE

from fairseq_vgs.cli.main import build_parser

NOT_IN_THE_REFERENCE = {"cli", "compat", "configs", "demo"}
COMMANDS = [(named(path), shlex.join(words)) for path in DOCUMENTS for words in commands(path, "fairseq-vgs")]


@pytest.fixture(scope="module")
def parser():
    return build_parser()


def test_readme_is_one_page():
    assert (CHECKOUT / "README.md").stat().st_size <= 7 * 1024


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document):
    lost = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_commands_exist(parser, document, command):
    """Subcommands, options and the number of arguments; nothing is run."""
    assert parser.parse_args(shlex.split(command)).run is not None


def test_commands_are_found():
    assert len(COMMANDS) >= 30


def test_reference_has_every_room():
    navigation = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - NOT_IN_THE_REFERENCE
    assert {room for room in rooms if f"api/{room}.md" not in navigation} == set()


def test_navigation_has_every_page():
    navigation = (CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.name for path in (CHECKOUT / "docs").glob("*.md")}
    assert {page for page in pages if f": {page}\n" not in navigation} == set()
