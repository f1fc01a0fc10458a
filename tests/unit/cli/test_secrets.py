"""A cloud's secrets are drawn once, are its owner's only, and are on the disk before the cloud is made with them."""

import os
from pathlib import Path

import pytest

from muster.cli.secrets import admin_password, folder_secret


def test_secrets_are_drawn_once_and_outlive_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")))
    drawn = [draw(tmp_path) for draw in (admin_password, folder_secret)]
    assert synced == [f"{tmp_path}/admin-password.new", str(tmp_path), f"{tmp_path}/secret.new", str(tmp_path)]
    assert [draw(tmp_path) for draw in (admin_password, folder_secret)] == drawn
    assert min(map(len, drawn)) > 20
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
