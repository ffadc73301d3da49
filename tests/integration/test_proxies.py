"""Which S3 servers are asked through the environment's proxy."""

from __future__ import annotations

import pytest

from storage.proxies import is_on_this_machine
from storage.s3.bucket import Bucket, BucketUnavailable
from storage.settings import Settings
from tests.conftest import RunningServices
from tests.support.proxies import proxy_settings


@pytest.fixture
def broken_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in proxy_settings("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8333", "https://LOCALHOST", "http://localhost.:80", "http://s3.localhost:9000",
     "http://127.8.9.10", "http://[::1]:8333", "http://[::ffff:127.0.0.1]:1"],
)  # fmt: skip
def test_loopback_names_and_addresses_are_on_this_machine(url: str) -> None:
    assert is_on_this_machine(url)


@pytest.mark.parametrize(
    "url",
    ["https://s3.eu-central-1.amazonaws.com", "http://localhost.example.com", "http://10.0.0.1:9000",
     "http://127.0.0.1.example.com", "http://user:127.0.0.1@example.com", "http://notlocalhost", "http://[::2]"],
)  # fmt: skip
def test_everything_else_is_elsewhere(url: str) -> None:
    assert not is_on_this_machine(url)


@pytest.mark.usefixtures("broken_proxy")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_s3_server_on_this_machine_is_asked_past_the_proxy(services: RunningServices, host: str) -> None:
    bucket = _bucket(services, services.s3_endpoint_url.replace("127.0.0.1", host))
    bucket.put("here", b"pixels", "image/png")
    assert b"".join(bucket.open("here").chunks) == b"pixels"


@pytest.mark.usefixtures("broken_proxy")
def test_an_s3_server_elsewhere_is_asked_through_the_proxy_unless_no_proxy_names_it(
    services: RunningServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", services.s3_endpoint_url)  # it answers what a proxy would pass on to it
    bucket = _bucket(services, "http://pictures.invalid")
    bucket.put("elsewhere", b"pixels", "image/png")
    assert b"".join(bucket.open("elsewhere").chunks) == b"pixels"
    monkeypatch.setenv("no_proxy", ".invalid")
    with pytest.raises(BucketUnavailable, match=r"pictures\.invalid"):
        _bucket(services, "http://pictures.invalid").put("elsewhere", b"pixels", "image/png")


def _bucket(services: RunningServices, endpoint_url: str) -> Bucket:
    values = services.settings_for("darkroom_template", s3_endpoint_url=endpoint_url).model_dump()
    return Bucket(Settings(**values))
