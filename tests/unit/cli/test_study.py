"""Arguments of ``fairseq-vgs study`` and ``evaluate run`` that argparse has to refuse."""

import pytest

from fairseq_vgs.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "s.yaml", "--processes", "0"], "at least 1, got '0'"),
        (["study", "s.yaml", "--gpus", ""], "numbers of GPUs such as 0,1, got ''"),
        (["study", "s.yaml", "--gpus", "0,"], "got '0,'"),
        (["evaluate", "run", "RUN", "DATA", "--every", "0"], "at least 1, got '0'"),
        (["evaluate", "run", "RUN", "DATA", "--every", "x"], "at least 1, got 'x'"),
    ],
)
def test_wrong_numbers_are_usage_errors(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
