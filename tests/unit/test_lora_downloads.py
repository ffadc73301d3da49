"""LoRAs by URL: fetched once, whole, from hosts that are named, and kept within the limit of their folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from storage.outbound.check_url import AllowList
from tests.support.receivers import LOOPBACK_ALLOWED, Answer, Receiver
from worker.attempts.lora_downloads import LoraDownloads, LoraNotFetched

BODY = save({"transformer.layers.0.attention.to_q.lora_A.weight": torch.ones(4, 48)})


def downloads(folder: Path, **more: Any) -> LoraDownloads:
    values: dict[str, Any] = {"hosts": frozenset({"127.0.0.1"}), "max_bytes": 10_000, "max_folder_bytes": 10_000,
              "allow": LOOPBACK_ALLOWED} | more  # fmt: skip
    return LoraDownloads(folder, **values)


def names_in(folder: Path) -> list[str]:
    return sorted(file.suffix for file in folder.iterdir())


def test_a_file_is_fetched_once_and_found_by_its_url(tmp_path: Path) -> None:
    with Receiver().serving() as server:
        server.answer = lambda _: Answer(body=BODY)
        url = f"http://127.0.0.1:{server.port}/a.safetensors?key=secret"
        kept = downloads(tmp_path / "loras")
        assert url not in kept
        kept.fetch(url)
        kept.fetch(url)
        assert len(server.requests) == 1
    assert kept[url].read_bytes() == BODY
    assert names_in(tmp_path / "loras") == [".safetensors"]
    assert downloads(tmp_path / "loras")[url] == kept[url], "another worker finds it too"


@pytest.mark.parametrize(
    ("answer", "more", "reason"),
    [
        (Answer(404), {}, "the server answered 404"),
        (Answer(body=b"<html>log in</html>"), {}, "is no whole safetensors file"),
        (Answer(body=BODY[:-1]), {}, "is no whole safetensors file"),
        (Answer(body=BODY), {"max_bytes": 100}, "at most 100 are allowed"),
        (Answer(body=BODY), {"hosts": frozenset({"huggingface.co"})}, "not taken by this worker"),
        (Answer(body=BODY), {"allow": AllowList()}, "https://"),
        (Answer(302, {"Location": "http://169.254.169.254/latest/x.safetensors"}), {}, "169.254.169.254"),
    ],
)
def test_what_is_not_a_lora_from_an_allowed_host_is_refused_and_leaves_nothing(
    tmp_path: Path, answer: Answer, more: dict[str, Any], reason: str
) -> None:
    with Receiver().serving() as server:
        server.answer = lambda _: answer
        url = f"http://127.0.0.1:{server.port}/a.safetensors?key=secret"
        kept = downloads(tmp_path, **more)
        with pytest.raises(LoraNotFetched, match=reason) as refused:
            kept.fetch(url)
    assert "secret" not in str(refused.value)
    assert url not in kept
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "loras.internal", "localhost", "absent.invalid"])
def test_a_private_or_unknown_host_is_refused_without_advice_that_would_not_help(tmp_path: Path, host: str) -> None:
    kept = LoraDownloads(tmp_path, hosts=frozenset({host.strip("[]")}), max_bytes=10_000, max_folder_bytes=10_000)
    with pytest.raises(LoraNotFetched, match="can't be fetched") as refused:
        kept.fetch(f"https://{host}/a.safetensors")
    assert "would allow" not in str(refused.value)
    assert "ALLOW=" not in str(refused.value)


def test_the_least_recently_used_files_leave_a_folder_that_is_full(tmp_path: Path) -> None:
    with Receiver().serving() as server:
        server.answer = lambda _: Answer(body=BODY)
        urls = [f"http://127.0.0.1:{server.port}/{name}.safetensors" for name in "abc"]
        kept = downloads(tmp_path, max_folder_bytes=2 * len(BODY))
        for age, url in enumerate(urls[:2]):
            kept.fetch(url)
            os.utime(kept[url], (age, age))
        kept.fetch(urls[0])  # used again: the other one is the oldest now
        kept.fetch(urls[2])
    assert [url in kept for url in urls] == [True, False, True]


def test_a_folder_that_can_not_be_written_is_the_workers_trouble_and_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Receiver().serving() as server:
        server.answer = lambda _: Answer(body=BODY)
        with pytest.raises(LoraNotFetched, match="has no room"):
            downloads(tmp_path / "file" / "loras").fetch(f"http://127.0.0.1:{server.port}/a.safetensors")
