"""The names in /tmp that SeaweedFS uses, when another user of the machine has taken them first."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.embedded import EmbeddedS3, s3_sockets
from cli.embedded.errors import EmbeddedServerError
from cli.embedded.ports import LOWEST, _first_ephemeral
from cli.embedded.s3_sockets import sockets_of


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of /tmp, so that no other server of this machine is disturbed."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(s3_sockets, "FOLDER", folder)
    return folder


def server(folder: Path) -> EmbeddedS3:
    made = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret")
    made._ports["s3"] = 1
    return made


def test_ports_whose_sockets_somebody_else_has_made_are_not_chosen(tmp_path: Path, shared: Path) -> None:
    for port in range(LOWEST, _first_ephemeral()):
        if port % 4 == 0:
            (shared / f"seaweedfs-master-grpc-{port}.sock").symlink_to("/nowhere")
    for _ in range(8):
        ours = server(tmp_path)
        ours._choose_inner_ports()
        assert len(sockets_of(ours._options())) == 4
        assert ours._ports["master.grpc"] % 4 != 0


def test_where_all_are_taken_the_message_says_so_and_nothing_is_started(tmp_path: Path, shared: Path) -> None:
    for port in range(LOWEST, _first_ephemeral()):
        (shared / f"seaweedfs-filer-grpc-{port}.sock").touch()
    ours = server(tmp_path)
    with pytest.raises(EmbeddedServerError, match=f"another user.* `ls -l {shared}`"):
        ours._choose_inner_ports()
    assert not hasattr(ours, "process")


def test_stopping_leaves_what_it_may_not_remove(tmp_path: Path, shared: Path) -> None:
    ours = server(tmp_path)
    ours._choose_inner_ports()
    *own, theirs = sockets_of(ours._options())
    for path in own:
        path.touch()
    (theirs / "of-somebody-else").mkdir(parents=True)
    ours.stop()
    assert list(shared.iterdir()) == [theirs]
