"""The private files of `darkroom up`: made once, readable for its owner only."""

from __future__ import annotations

import stat
from pathlib import Path

from cli.up.data_folder import DataFolder


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    key, s3 = folder.secret_key(), folder.s3_keys()
    assert (DataFolder(tmp_path).secret_key(), DataFolder(tmp_path).s3_keys()) == (key, s3)
    assert len(key) >= 32
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_new_folder_that_was_not_used_is_gone_and_another_stays(tmp_path: Path) -> None:
    for kept in (None, tmp_path / "data" / "of-somebody-else"):
        folder = DataFolder(tmp_path / "data")
        folder.open()
        if kept is not None:
            kept.touch()
        folder.close(unused=True)
        assert list(tmp_path.iterdir()) == ([] if kept is None else [kept.parent])
    assert kept is not None
    folder.open()  # not new any more, but its run folder is
    folder.close()
    folder.open()
    folder.close(unused=True)
    assert sorted(kept.parent.iterdir()) == [kept, kept.parent / "run"]
