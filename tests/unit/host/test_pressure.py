from pathlib import Path

import pytest

from muster.host.pressure import Pressure, PsiReader


def test_psi_is_the_share_of_time_between_two_reads(tmp_path: Path) -> None:
    def write(cpu: int, io: int, memory: int) -> None:
        for name, total in (("cpu", cpu), ("io", io), ("memory", memory)):
            text = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=7\n"
            (tmp_path / name).write_text(text)

    moments = iter((10.0, 12.0, 12.0))
    reader = PsiReader(tmp_path, lambda: next(moments))
    write(0, 0, 0)
    assert reader() is None
    write(1_000_000, 500_000, 0)
    assert reader() == Pressure(0.5, 0.25, 0.0)
    assert reader() is None


@pytest.mark.parametrize("text", ["", "full total=1", "some avg10=0", "some total=x"])
def test_a_kernel_that_does_not_tell_is_no_error(tmp_path: Path, text: str) -> None:
    assert PsiReader(tmp_path / "none")() is None
    for name in ("cpu", "io", "memory"):
        (tmp_path / name).write_text(text)
    assert PsiReader(tmp_path)() is None
