import os
from pathlib import Path

from muster.base.file_lock import take_lock


def test_a_lock_is_one_opens_at_a_time_and_goes_with_it(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert take_lock(one)
    assert take_lock(one)
    assert not take_lock(other)
    os.close(one)
    assert take_lock(other)
    os.close(other)
