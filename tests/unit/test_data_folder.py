"""The private files of `darkroom up`: made once, readable for its owner only."""

from __future__ import annotations

import stat
from pathlib import Path

from cli.data_folder import DataFolder


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    key, s3 = folder.secret_key(), folder.s3_keys()
    assert (DataFolder(tmp_path).secret_key(), DataFolder(tmp_path).s3_keys()) == (key, s3)
    assert len(key) >= 32
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
