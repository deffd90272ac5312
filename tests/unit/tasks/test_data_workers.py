import gc
import weakref

import pytest
from support.tiny_folder import make_folder, make_task


@pytest.mark.parametrize("data_buffer_size", [0, 2])
def test_an_epochs_iterator_goes_with_its_last_reference(tmp_path, data_buffer_size):
    task = make_task(make_folder(tmp_path / "m").path, "valid")
    gc.collect()
    gc.disable()
    try:
        iterator = task.get_batch_iterator(
            dataset=task.dataset("valid"), max_sentences=4, num_workers=1, data_buffer_size=data_buffer_size
        )
        assert len(list(iterator.next_epoch_itr())) == 2
        reference = weakref.ref(iterator)
        del iterator
        assert reference() is None
    finally:
        gc.enable()
