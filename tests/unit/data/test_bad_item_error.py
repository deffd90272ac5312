import pickle

import pytest
import torch.utils.data

from fairseq_vgs.data.bad_items import BadItemError
from fairseq_vgs.files.faults import Fault, FaultError

FAULT = Fault("train.tsv:17 (a: b.wav)", "audio is empty; remove: the line")


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise BadItemError(FAULT)


def test_is_a_manifest_error_that_pickles():
    error = pickle.loads(pickle.dumps(BadItemError(FAULT)))
    assert isinstance(error, FaultError)
    assert error.faults == (FAULT,)


def test_a_data_worker_reports_it_on_one_line():
    with pytest.raises(BadItemError) as caught:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert str(caught.value) == str(FAULT)
