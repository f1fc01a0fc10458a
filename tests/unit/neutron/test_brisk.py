"""The interval at which threads hand over: shorter while somebody wants it, then as it was."""

import sys

import pytest

from muster.neutron.brisk import Brisk


def test_shorter_while_wanted_by_any_and_restored_after_errors_too() -> None:
    before = sys.getswitchinterval()
    brisk = Brisk()
    with brisk.while_held():
        with pytest.raises(ValueError), brisk.while_held():  # noqa: PT012
            assert sys.getswitchinterval() < before
            raise ValueError
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
