import pytest
from support.train import small_folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """24 training and 10 validation pairs of the embedded set."""
    return small_folder(tmp_path_factory.mktemp("data") / "small")
