"""Sound and pictures are decoded and encoded in one room."""

import ast

from support.source_files import MODULES, PACKAGE, imported_modules, parse

DECODERS = {"soundfile", "wave", "soxr", "audioread", "librosa", "torchaudio", "scipy.io.wavfile", "scipy.io"}
PICTURES = {"open", "frombuffer", "frombytes"}
# What an exported folder holds works without this package; a test compares its pixels with the room's.
EXPORTED = PACKAGE / "checkpoints/exports/modeling"


def outside():
    return [path for path in MODULES if not {PACKAGE / "media", EXPORTED} & {*path.parents}]


def test_no_other_room_decodes_sound():
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports {module}"
        for path in outside()
        for module, line in imported_modules(path)
        if any(module == name or module.startswith(f"{name}.") for name in DECODERS)
    ]
    assert not found, "\n".join(found)


def test_no_other_room_opens_or_writes_pictures():
    """``Image.fromarray`` and drawing are not decoding; ``Image.open`` and ``.save(..., format=...)`` are."""
    found = []
    for path in outside():
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            is_image = isinstance(owner, ast.Name) and owner.id == "Image"
            opens = is_image and node.func.attr in PICTURES
            names = {keyword.arg for keyword in node.keywords}
            writes = node.func.attr == "save" and bool({"format", "quality"} & names)
            if opens or writes:
                found.append(f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {ast.unparse(node.func)}")
    assert not found, "\n".join(found)
