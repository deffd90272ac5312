"""The plugin's classes reach fairseq's registries whoever comes first, and importing it is cheap.

Each case is a process of its own: registries are global, and an import happens once. The processes are forks
of one that has imported torch and what else of others fairseq needs, but neither fairseq nor the plugin.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
REGISTERED = """
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.models import MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY
    from fairseq.models.wav2vec import wav2vec2
    print("vgs_pretraining" in TASK_REGISTRY, "vgs_wav2vec2" in MODEL_REGISTRY,
          {"vgs_contrastive", "vgs_multitask"} <= set(CRITERION_REGISTRY), hasattr(wav2vec2, "eval"))
"""
SERVER = """
import json, os, sys, traceback
import PIL.ImageEnhance, bitarray.util, hydra.experimental, sacrebleu, soundfile, torch.onnx.operators

assert not {"fairseq", "fairseq_vgs"} & set(sys.modules)
print("ready", flush=True)
for line in sys.stdin:
    case = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT), number)
        code = 0
        try:
            exec(case["code"], {"__name__": "__main__"})
        except BaseException:
            code = 1
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


@pytest.fixture
def run_code(server, tmp_path):
    """Run code in a process without fairseq and the plugin; return what it prints."""

    def run(code, tail=""):
        text = textwrap.dedent(code) + textwrap.dedent(tail)
        files = {name: str(tmp_path / name) for name in ("out", "err")}
        server.stdin.write(json.dumps({"code": text, **files}) + "\n")
        server.stdin.flush()
        status, errors = server.stdout.readline(), Path(files["err"]).read_text()
        assert status == "0\n", errors
        assert not errors or code.lstrip().startswith("from argparse")  # where fairseq speaks
        return Path(files["out"]).read_text().strip()

    return run


def run_fresh(code):
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize(
    "first",
    [
        "import fairseq_vgs; from fairseq.checkpoint_utils import load_model_ensemble_and_task",
        "import fairseq_vgs.models.vgs_wav2vec2",
        "import fairseq_vgs.tasks.vgs_pretraining",
        "import fairseq_vgs.criterions.vgs_multitask",
        "import fairseq_vgs.data.paired_dataset",
        "from fairseq_vgs import load_checkpoint",
    ],
)
def test_everything_is_registered_and_fixed(first, run_code):
    assert run_code(first, REGISTERED) == "True True True True"


@pytest.mark.parametrize("first", ["", "from fairseq_vgs.cli import main; main.build_parser()\n        "])
def test_user_dir(first, run_code):
    """With and without the package imported before, which makes fairseq skip what it does for a user dir."""
    code = f"""
        {first}from argparse import Namespace
        from fairseq import utils
        utils.import_user_module(Namespace(user_dir={str(CHECKOUT / "fairseq_vgs")!r}))
    """
    assert run_code(code, REGISTERED) == "True True True True"


def test_importing_the_package_imports_nothing_heavy():
    code = """
        import sys, fairseq_vgs
        print({"fairseq", "torch", "numpy", "omegaconf"} & set(sys.modules), fairseq_vgs.losses.__name__)
    """
    assert run_fresh(code) == "set() fairseq_vgs.losses"


def test_unknown_names_are_missing_attributes():
    code = """
        import fairseq_vgs
        print([hasattr(fairseq_vgs, name) for name in ("nonsense", "_x")], "register" in dir(fairseq_vgs))
    """
    assert run_fresh(code) == "[False, False] True"


def test_the_root_logger_is_left_alone(run_code):
    code = """
        import logging
        root = logging.getLogger()
        import fairseq_vgs
        fairseq_vgs.register()
        fairseq_vgs.register()
        advising = logging.getLogger("fairseq.tasks.text_to_speech")
        print(root.handlers, root.level == logging.WARNING, advising.level)
    """
    assert run_code(code, REGISTERED).splitlines() == ["[] True 0", "True True True True"]


def test_a_command_logs_in_its_own_way(tmp_path, run_code):
    """Its handler is the only one, and nothing is said about packages that fairseq would like to have."""
    (tmp_path / "none.pt").write_bytes(b"no checkpoint")
    code = f"""
        import logging, sys
        from fairseq_vgs.cli import main
        sys.stderr = sys.stdout
        code = main.main(["import", "wav2vec2", {str(tmp_path / "none.pt")!r}, {str(tmp_path / "new.pt")!r}])
        (handler,) = logging.getLogger().handlers
        print(code, "fairseq" in sys.modules, handler.formatter._fmt == main.LOG_FORMAT)
    """
    lines = run_code(code).splitlines()
    assert lines[0].startswith(f"{tmp_path}/none.pt: ")
    assert lines[1:] == ["1 True True"]


def test_handlers_of_others_stay_and_finding_fairseq_does_not_use_up_the_hook(run_code):
    code = """
        import importlib.util, logging, sys
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        root = logging.getLogger()
        before = root.handlers[:], root.level
        import fairseq_vgs
        spec = importlib.util.find_spec("fairseq")
        import fairseq
        print(type(fairseq.__spec__.loader).__name__, type(fairseq.__loader__).__name__)
    """
    tail = f"""{REGISTERED}
    fairseq_vgs.register()
    print((root.handlers, root.level) == before)
    """
    assert run_code(code, tail).splitlines() == [
        "SourceFileLoader SourceFileLoader",
        "True True True True",
        "True",
    ]


def test_fairseq_on_its_own_logs_as_it_always_does(run_code):
    """As in fairseq-hydra-train, which imports fairseq first and the plugin as its user_dir later."""
    code = """
        import logging, sys
        sys.stderr = sys.stdout
        import fairseq
        before = logging.getLogger().handlers[:], logging.getLogger().level
        import fairseq_vgs
        print((logging.getLogger().handlers, logging.getLogger().level) == before, len(before[0]), before[1])
    """
    assert run_code(code).splitlines()[-1] == "True 1 20"


def test_a_spawned_rank_finds_everything(tmp_path):
    """It imports the script, and with it the plugin, a second time."""
    script = tmp_path / "ranks.py"
    script.write_text(
        """
import fairseq_vgs

def print_tasks(rank):
    from fairseq.tasks import TASK_REGISTRY
    print("vgs_pretraining" in TASK_REGISTRY)

if __name__ == "__main__":
    import multiprocessing
    rank = multiprocessing.get_context("spawn").Process(target=print_tasks, args=(0,))  # as torch does
    rank.start()
    rank.join()
    raise SystemExit(rank.exitcode)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
