"""Make official fairseq importable, just before it is imported; ``fairseq_vgs.pth`` starts this with Python.

``pip install`` puts both files into site-packages, even if the package itself stays in a checkout. Every
Python of the environment runs this module, so it imports nothing and only waits. Whatever goes wrong later is
one line on stderr, followed by fairseq's own error.
"""

import sys


class _BeforeFairseq:
    """A finder that finds nothing, but learns what is about to be imported."""

    is_waiting = True

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        """Install the compatibility layer once, at ``fairseq``; the other finders find it."""
        if name == "fairseq" and self.is_waiting:
            self.is_waiting = False
            _allow_fairseq_import()


def _allow_fairseq_import() -> None:
    try:
        import fairseq_vgs_compat

        fairseq_vgs_compat.install()
    except Exception as error:  # noqa: BLE001 - fairseq may be used without this package
        is_gone = isinstance(error, ModuleNotFoundError) and error.name == "fairseq_vgs_compat"
        reason = "its checkout was moved or deleted" if is_gone else repr(error)
        sys.stderr.write(
            f"fairseq_vgs: cannot help to import fairseq: {reason}; install fairseq_vgs again, "
            "or remove it: pip uninstall fairseq_vgs\n"
        )


sys.meta_path.insert(0, _BeforeFairseq())
