"""The private files of `darkroom up`: made once, readable for its owner only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.supervision.data_folder import DataFolder
from storage.errors import OperatorError

NOBODY = 65534
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")


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


@only_root
@pytest.mark.parametrize("whose", ["", "run", "run/url", "run/processes.json", "secret-key", "s3", "postgres"])
def test_a_folder_that_holds_something_of_another_user_is_not_used(tmp_path: Path, whose: str) -> None:
    (tmp_path / "run").mkdir()
    for name in ("s3", "postgres"):
        (tmp_path / name).mkdir()
    for name, text in (
        ("url", "http://127.0.0.1:1"),
        ("processes.json", "[]"),
        ("catalog", "/x"),
        ("settings.json", "{}"),
    ):
        (tmp_path / "run" / name).write_text(text)
    folder = DataFolder(tmp_path)
    folder.secret_key()
    os.chown(tmp_path / whose, NOBODY, NOBODY)
    uses = (folder.url_in_use, folder.catalog_in_use, folder.database_in_use, folder.settings_in_use, folder.secret_key)
    for use in (*uses, folder.open):
        with pytest.raises(OperatorError, match="belongs to nobody, and you are root"):
            use()
    assert sorted((tmp_path / "run").iterdir()) == sorted(
        tmp_path / "run" / name for name in ("url", "processes.json", "catalog", "settings.json")
    )


@only_root
def test_root_behind_sudo_may_use_the_folder_of_who_called_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    assert DataFolder(tmp_path).url_in_use() is None
    for other in ("1", "-1", ""):
        monkeypatch.setenv("SUDO_UID", other)
        with pytest.raises(OperatorError, match="belongs to"):
            DataFolder(tmp_path).url_in_use()


def test_a_folder_that_everybody_may_write_is_refused_unless_it_keeps_what_is_others(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o777)
    for use in (DataFolder(path).open, DataFolder(path).url_in_use, DataFolder(path).secret_key):
        with pytest.raises(OperatorError, match=f"chmod o-w {path}"):
            use()
    path.chmod(0o1777)  # as /tmp is
    assert DataFolder(path).url_in_use() is None
