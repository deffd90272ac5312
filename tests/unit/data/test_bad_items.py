import logging

from fairseq_vgs.data.bad_items import BadItemError, BadItems
from fairseq_vgs.files.faults import Fault


def test_each_item_is_logged_once_and_counted_once(caplog):
    items = BadItems(4, noun="a pair")
    with caplog.at_level(logging.WARNING):
        for index in (2, 0, 2):
            items.record(index, BadItemError(Fault(f"train.tsv:{index + 2}", "audio is empty")))
    assert items.total() == 2
    assert [record.getMessage() for record in caplog.records] == [
        "skipped a pair: train.tsv:4: audio is empty",
        "skipped a pair: train.tsv:2: audio is empty",
    ]
