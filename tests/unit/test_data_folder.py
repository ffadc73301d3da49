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


def test_others_read_nothing_of_it_also_where_an_earlier_release_let_them(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for mode in (None, 0o755):
        folder = DataFolder(path)
        if mode is not None:
            path.chmod(mode)
            folder.run.chmod(mode)
        folder.open()
        assert not stat.S_IMODE(path.stat().st_mode) & 0o066
        assert stat.S_IMODE(folder.run.stat().st_mode) == 0o700
        folder.close()


def test_a_folder_that_holds_other_things_too_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "index.html").touch()
    folder = DataFolder(tmp_path)
    folder.open()
    folder.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE(folder.run.stat().st_mode) == 0o700
