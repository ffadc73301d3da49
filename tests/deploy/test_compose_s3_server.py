"""The S3 server as compose.yaml starts it: the real program with the real options, on other ports."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import psutil
from botocore.exceptions import BotoCoreError, ClientError
from mypy_boto3_s3 import S3Client

from cli.embedded.ports import free_ports
from cli.embedded.s3 import _program
from cli.embedded.s3_sockets import SERVERS
from tests.deploy.compose_files import load

# What compose.yaml had before the inner servers were closed; its volumes have to go on working.
EARLIER = [
    "server",
    "-ip=localhost",
    "-ip.bind=127.0.0.1",
    "-master.peers=none",
    "-volume.max=0",
    "-s3",
    "-s3.iam=false",
]


@contextmanager
def serving(options: list[str], folder: Path) -> Iterator[tuple[psutil.Process, S3Client, dict[str, int]]]:
    numbers = iter(free_ports(2 * len(SERVERS)))
    ports = {name: next(numbers) for each in SERVERS for name in (f"{each}.port", f"{each}.port.grpc")}
    identity, secret = folder / "identity.json", secrets.token_hex(8)
    credentials = [{"accessKey": "key", "secretKey": secret}]
    actions = ["Admin", "Read", "Write", "List"]
    identity.write_text(json.dumps({"identities": [{"name": "x", "actions": actions, "credentials": credentials}]}))
    (folder / "data").mkdir(exist_ok=True)
    more = [f"-{name}={port}" for name, port in ports.items()]
    if not any("iceberg" in option for option in options):
        more += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    words = [*options, f"-dir={folder / 'data'}", f"-s3.config={identity}", "-volume.minFreeSpace=1MiB", *more]
    process = subprocess.Popen(
        [str(_program()), *words],
        cwd=folder,
        env={"HOME": str(folder), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports['s3.port']}",
        aws_access_key_id="key",
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )
    try:
        wait_for(client)
        yield psutil.Process(process.pid), client, ports
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)
        process.kill()
        process.wait()


def wait_for(client: S3Client) -> None:
    """Until it takes objects."""
    give_up_at = time.monotonic() + 60
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="pictures")
            client.put_object(Bucket="pictures", Key="probe", Body=b"x" * 5000)
        except (BotoCoreError, ClientError):
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        else:
            return


def test_other_containers_reach_the_s3_part_alone_and_earlier_volumes_go_on(tmp_path: Path) -> None:
    with serving(EARLIER, tmp_path) as (_, client, _):
        client.put_object(Bucket="pictures", Key="old", Body=b"old" * 5000)
    options = load("compose.yaml")["services"]["s3"]["command"]
    with serving(options, tmp_path) as (process, client, ports):
        assert client.get_object(Bucket="pictures", Key="old")["Body"].read() == b"old" * 5000
        listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        reachable = {c.laddr.port for c in listening if c.laddr.ip != "127.0.0.1"}
        assert reachable == {ports["s3.port"], ports["s3.port.grpc"]}
