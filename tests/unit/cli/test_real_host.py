"""What is decided about a real host before it starts."""

import pytest

pytest.importorskip("libvirt")

from muster.cli.real_host import boot_settings
from muster.host.hypervisor.libvirt.settings import Accelerator


def test_emulated_guests_boot_as_many_at_a_time_as_there_are_processors() -> None:
    settings = boot_settings(Accelerator.TCG, 6)
    assert (settings.limit, settings.limit_min, settings.limit_max) == (6, 6, 6)


def test_with_kvm_the_number_of_boots_follows_the_pressure() -> None:
    settings = boot_settings(Accelerator.KVM, 6)
    assert settings.limit == 6
    assert settings.limit_min < 6 < settings.limit_max
