"""What another user of the machine gets from the embedded servers: nothing, on any port or socket."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import psycopg
import pytest
from mypy_boto3_s3 import S3Client

from cli.embedded import EmbeddedPostgres, EmbeddedS3
from cli.embedded.s3 import _program
from cli.embedded.s3_security import S3Security, _make_certificates
from cli.embedded.s3_sockets import sockets_of
from cli.private_files import write_private
from tests.integration import asking_ports
from tests.integration.seaweedfs_paths import METHODS, PATHS

NOBODY = 65534
NO_HTTPS = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
KEY = "key-" + secrets.token_hex(8)
SECRET = secrets.token_hex(20)
BUCKET = "bucket-" + secrets.token_hex(4)
DECOY = "bucket-" + secrets.token_hex(4)  # one that is not there


@pytest.fixture
def folder() -> Iterator[Path]:
    """Everybody may pass, as in /home/me on many machines; what protects the data are its own modes."""
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path


@pytest.fixture
def s3(folder: Path) -> Iterator[EmbeddedS3]:
    server = EmbeddedS3(folder / "s3", access_key_id=KEY, secret_access_key=SECRET)
    server.start()
    fill(client_of(server))
    yield server
    server.stop()


def test_no_port_and_no_socket_tells_or_changes_anything(s3: EmbeddedS3, folder: Path) -> None:
    before = objects(client_of(s3))
    files = volume_files(s3)
    ports, sockets = listening(s3)
    assert len(ports) == 8
    assert {Path(path).name for path in sockets} >= {path.name for path in sockets_of(s3._options())}
    names = {port: name for name, port in s3._ports.items()}
    s3_port = s3._ports["s3"]
    answers = ask(folder, ports, within_reach_of_others(s3, sockets), [*PATHS])
    for where, how, request, answer in answers:
        about = (names.get(where, where), how, request, answer[:300])
        if where == s3_port:
            continue
        assert answer in ("", NO_HTTPS), about
    assert NO_HTTPS in [each[3] for each in answers]  # they were there, and asked
    for word in (KEY, SECRET, str(folder), "volume", "Volumes", "127.0.0.1:"):
        told = [each[:3] for each in answers if word in each[3] and word not in each[2]]
        assert told == [], word
    assert objects(client_of(s3)) == before
    assert volume_files(s3) == files
    client_of(s3).put_object(Bucket=BUCKET, Key="later", Body=b"still works")


def test_the_s3_port_does_not_say_to_strangers_which_buckets_and_objects_there_are(
    s3: EmbeddedS3, folder: Path
) -> None:
    """The same answer for a bucket that is there and one that isn't, but for its name and the request's id."""
    port = s3._ports["s3"]
    asked = [path for path in PATHS if "{bucket}" in path]
    here, nowhere = (
        [without_ids(each[3], name) for each in ask(folder, [port], [], asked, name) if each[1] == "plain"]
        for name in (BUCKET, DECOY)
    )
    assert here == nowhere
    assert any("AccessDenied" in answer for answer in here)
    anything = [each[3] for each in ask(folder, [port], [], [*PATHS]) if each[3].startswith("HTTP/1.1 2")]
    # What load balancers ask, and CORS: they have no body.
    assert {answer.partition("\r\n\r\n")[2] for answer in anything} <= {""}


def test_weed_shell_of_another_user_gets_nothing_and_ours_gets_everything(s3: EmbeddedS3, folder: Path) -> None:
    commands = "s3.configure\nlock\ncollection.list\nvolume.list\nfs.ls /buckets\ncollection.delete -collection="
    commands += f"{BUCKET} -force\nfs.rm -r /buckets/{BUCKET}\nunlock\n"
    told = weed_shell(s3, commands, home=folder, as_another=True)
    for word in (KEY, SECRET, BUCKET, str(s3.folder)):
        assert word not in told
    assert objects(client_of(s3))
    # The same commands with the certificate, so that the test would see what can be seen.
    assert KEY in weed_shell(s3, "s3.configure\n", home=s3.folder, as_another=False)


def test_a_part_that_has_the_certificate_is_answered(s3: EmbeddedS3) -> None:
    """The other half of the proof: the ports are alive, and the certificate is what they ask for."""
    for part in ("master", "volume", "filer"):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", s3._ports[part], timeout=5, context=s3._security.client_context()
        )
        connection.request("GET", "/status")
        assert connection.getresponse().status in (200, 404), part
        connection.close()


def test_the_commands_of_the_servers_are_off_even_with_the_certificate(s3: EmbeddedS3) -> None:
    for part in ("master", "volume", "filer"):
        for path in (f"/col/delete?collection={BUCKET}", f"/buckets/{BUCKET}/?recursive=true"):
            for method in ("POST", "DELETE"):
                connection = http.client.HTTPSConnection(
                    "127.0.0.1", s3._ports[part], timeout=5, context=s3._security.client_context()
                )
                connection.request(method, path)
                assert connection.getresponse().status >= 400, (part, path, method)
                connection.close()
    assert objects(client_of(s3))


def test_nothing_of_the_folders_can_be_read_by_others_also_what_an_earlier_release_left_open(folder: Path) -> None:
    s3 = OpenS3(folder / "s3", access_key_id=KEY, secret_access_key=SECRET)
    s3.start()
    fill(client_of(s3))
    before = objects(client_of(s3))
    s3.stop()
    postgres = EmbeddedPostgres(folder / "postgres")
    postgres.start()
    postgres.stop()
    for path in (s3.folder, s3.data, postgres.folder):
        path.chmod(0o755)
    for path in (s3.log, postgres.log, *s3.data.glob("*.dat")):
        path.chmod(0o644)

    locked = EmbeddedS3(folder / "s3", access_key_id=KEY, secret_access_key=SECRET)
    locked.start()
    postgres.start()
    try:
        assert objects(client_of(locked)) == before
        client_of(locked).put_object(Bucket=BUCKET, Key="later", Body=b"x")
        with psycopg.connect(postgres.url) as conn:
            conn.execute("SELECT 1")
        for root in (locked.folder, postgres.folder):
            assert readable_by_others(root) == []
        for _, sockets in (listening(locked), listening(postgres)):
            for path in map(Path, sockets):
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    finally:
        locked.stop()
        postgres.stop()


def test_two_services_side_by_side_do_not_know_each_others_certificates(s3: EmbeddedS3, folder: Path) -> None:
    other = EmbeddedS3(folder / "other", access_key_id=KEY, secret_access_key=SECRET)
    other.start()
    try:
        fill(client_of(other))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", s3._ports["master"], timeout=5, context=other._security.client_context()
        )
        with pytest.raises(OSError, match=r"(?i)certificate"):
            connection.request("GET", "/")
        connection.close()
        assert objects(client_of(other)) == objects(client_of(s3))
    finally:
        other.stop()


class NoSecurity(S3Security):
    """Earlier releases had none."""

    def write(self) -> None:
        pass


class OpenS3(EmbeddedS3):
    """As earlier releases started it."""

    def __init__(self, folder: Path, *, access_key_id: str, secret_access_key: str) -> None:
        super().__init__(folder, access_key_id=access_key_id, secret_access_key=secret_access_key)
        self._security = NoSecurity(self.folder)

    def _options(self) -> list[str]:
        return [option for option in super()._options() if option != "-disableHttp"]

    def _has_place_for_objects(self) -> bool:
        return True


def ask(
    folder: Path, ports: list[int], sockets: list[str], paths: list[str], bucket: str = BUCKET
) -> list[tuple[Any, str, str, str]]:
    """What `asking_ports` hears, as `nobody` where we are root."""
    own = folder / "own.pem"
    _, certificate, key = _make_certificates()
    write_private(own, certificate + key)
    requests = [[method, path.format(bucket=bucket)] for path in paths for method in METHODS]
    uid = NOBODY if os.getuid() == 0 else None
    asked = {"uid": uid, "ports": ports, "sockets": sockets, "requests": requests, "certificate": str(own)}
    done = subprocess.run(
        [sys.executable, "-I", asking_ports.__file__],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )
    return [tuple(each) for each in json.loads(done.stdout)]


def weed_shell(s3: EmbeddedS3, commands: str, *, home: Path, as_another: bool) -> str:
    """All that `weed shell` prints until it ends or we give up waiting for it to get in."""
    program = _program()
    identity: dict[str, Any] = {}
    if as_another and os.getuid() == 0 and all(each.stat().st_mode & 0o001 for each in (program, *program.parents)):
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    ports = s3._ports
    words = [
        program,
        "shell",
        f"-master=127.0.0.1:{ports['master']}.{ports['master.grpc']}",
        f"-filer=127.0.0.1:{ports['filer']}.{ports['filer.grpc']}",
    ]
    process: subprocess.Popen[str] = subprocess.Popen(
        [str(word) for word in words],
        cwd=home,
        env={"PATH": os.defpath, "HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **identity,
    )
    try:
        output, _ = process.communicate(commands, timeout=8 if as_another else 90)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output


def listening(server: EmbeddedS3 | EmbeddedPostgres) -> tuple[list[int], list[str]]:
    """Every TCP port and every named unix socket of the server's processes; relative names are in its folder."""
    root = psutil.Process(server.process.pid)
    ports: set[int] = set()
    sockets: set[str] = set()
    for process in (root, *root.children(recursive=True)):
        for each in process.net_connections("all"):
            if each.status == psutil.CONN_LISTEN:
                assert each.laddr.ip == "127.0.0.1"
                ports.add(each.laddr.port)
            elif isinstance(each.laddr, str) and each.laddr:
                sockets.add(str(server.folder / each.laddr))
    return sorted(ports), sorted(sockets)


def within_reach_of_others(server: EmbeddedS3, sockets: list[str]) -> list[str]:
    """All of them where `ask` can be another user, as root can. Else without those in a folder that is ours alone."""
    if os.getuid() == 0:
        return sockets
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    return [each for each in sockets if server.folder not in Path(each).parents]


def client_of(server: EmbeddedS3) -> S3Client:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


def fill(client: S3Client) -> None:
    client.create_bucket(Bucket=BUCKET)
    for number, size in enumerate((10, 1000, 300_000)):
        client.put_object(Bucket=BUCKET, Key=f"secret-place/{number}.png", Body=b"%d" % number * size)
    client.put_object(Bucket=BUCKET, Key="secret-place/picture.png", Body=b"picture")


def objects(client: S3Client) -> dict[str, str]:
    """Each key with the hash of what a signed link gives."""
    found = {}
    for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        body = client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
        found[each["Key"]] = hashlib.sha256(body).hexdigest()
    return found


def volume_files(server: EmbeddedS3) -> list[str]:
    return sorted(path.name for path in server.data.iterdir() if path.suffix in (".dat", ".idx"))


def without_ids(answer: str, bucket: str) -> str:
    """The answer but for what differs in each: the request's id, the time, and the name that was asked for."""
    lines = [line for line in answer.splitlines() if not line.lower().startswith(("x-amz-request-id", "date"))]
    text = "\n".join(lines).replace(bucket, "BUCKET")
    head, opening, rest = text.partition("<RequestId>")
    return head + opening + rest.partition("</RequestId>")[2]


def readable_by_others(root: Path) -> list[Path]:
    """What somebody who is neither the owner nor root can open, or list, by walking down from `root`."""
    found = []
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o066:
        found.append(root)
    if mode & 0o011 and root.is_dir():
        for path in root.iterdir():
            if path.is_dir() and not path.is_symlink():
                found += readable_by_others(path)
            elif stat.S_IMODE(path.lstat().st_mode) & 0o066:
                found.append(path)
    return found
