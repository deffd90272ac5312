"""Package metadata; imports nothing but setuptools, so that building needs neither torch nor fairseq."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Reads ``__version__`` from the package without importing it."""
    for line in (ROOT / "fairseq_vgs" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__ = "):
            return line.split('"')[1]
    raise RuntimeError("fairseq_vgs/__init__.py: expected a line '__version__ = \"...\"', got none")


setup(
    name="fairseq_vgs",
    version=read_version(),
    python_requires=">=3.11",
    packages=find_packages(include=["fairseq_vgs", "fairseq_vgs.*"]),
    py_modules=["fairseq_vgs_compat"],
    entry_points={
        "console_scripts": ["fairseq-vgs = fairseq_vgs.cli.main:main"],
        "torch.backends": ["fairseq_vgs_compat = fairseq_vgs_compat:install"],
    },
)
