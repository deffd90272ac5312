"""Values in the grammar of Hydra's overrides, which reads brackets, commas, quotes and blanks.

What is printed for a shell needs ``shlex.join`` around it as well: the two grammars quote differently.
"""

from __future__ import annotations

import re
import shlex

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./-]*")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def override(key: str, value: object) -> str:
    """Return ``KEY=VALUE`` from which Hydra reads this text, whatever its characters.

    >>> print(override("hydra.run.dir", "a run, Ä"))
    hydra.run.dir='a run, Ä'
    """
    return f"{key}={quoted(str(value))}"


def path_override(key: str, path: object) -> str:
    """Return ``KEY=PATH``, quoted where Hydra would misread the path.

    >>> print(path_override("task.data", "/my data"))
    task.data='/my data'
    """
    return f"{key}={path}" if _PLAIN_PATH.fullmatch(str(path)) else override(key, path)


def shell_override(key: str, path: object) -> str:
    """Return ``KEY=PATH`` to be pasted into a shell; only what a shell or Hydra would misread is quoted.

    >>> print(shell_override("common.user_dir", "/x/fairseq_vgs"))
    common.user_dir=/x/fairseq_vgs
    """
    return shlex.quote(path_override(key, path))


def unquoted(text: str) -> str:
    """Return the text that Hydra reads from a value in its quotes; other values are returned as they are.

    >>> print(unquoted("'a run, Ä'"))
    a run, Ä
    """
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    quote = text[0]
    return re.sub(rf"(\\+)({quote}|$)", lambda found: "\\" * (len(found[1]) // 2) + found[2], text[1:-1])


def quoted(text: str) -> str:
    """Return text in Hydra's quotes, in which a backslash escapes only quotes."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def choice(group: str, name: str) -> str:
    """Return ``GROUP=NAME``, quoted where Hydra would read the name otherwise."""
    is_plain = _PLAIN.fullmatch(name) and name.lower() not in ("null", "true", "false", "nan", "inf")
    return f"{group}={name}" if is_plain else override(group, name)
