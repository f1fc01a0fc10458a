"""Two clouds never share a data folder, and one that is gone leaves it free."""

from pathlib import Path

import pytest

from muster.base.errors import Conflict
from muster.cli.data_folder import held


def test_a_folder_is_held_once_and_free_again(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    with held(folder):
        assert folder.stat().st_mode & 0o077 == 0
        with pytest.raises(Conflict, match="Another muster runs"), held(folder):
            pass
    with held(folder):
        pass
