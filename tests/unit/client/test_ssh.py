"""The command line of a login."""

from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.client.ssh import SshProbe, SshTarget, ssh_command

TARGET = SshTarget("root", 2222, Path("key"))


def test_the_host_comes_last_after_the_end_of_options() -> None:
    command = ssh_command(TARGET, "10.0.0.1")
    assert command[0] == "ssh"
    assert command[-2:] == ["--", "10.0.0.1"]
    assert command[command.index("-l") + 1] == "root"
    assert command[command.index("-i") + 1] == "key"
    assert command[command.index("-p") + 1] == "2222"


@pytest.mark.parametrize("address", ["-oProxyCommand=x", "host", "10.0.0.1 -v", ""])
def test_only_ip_addresses_get_into_it(address: str) -> None:
    with pytest.raises(Invalid):
        ssh_command(TARGET, address)


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "a\nb"])
def test_user_names_that_are_options_are_refused(user: str) -> None:
    with pytest.raises(Invalid):
        SshProbe(SshTarget(user, 22, None), lambda: 0.0)
