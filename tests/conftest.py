"""What several files of tests share."""

import pytest
import small_study

from minirewind import study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished study that no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, study.run(small_study.tiny(), folder, progress=False)
