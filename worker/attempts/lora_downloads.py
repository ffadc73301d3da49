"""LoRAs that requests name by URL: fetched under the rules for untrusted URLs, cached in a folder of limited size."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from storage.errors import DarkroomError
from storage.outbound.check_url import AllowList
from storage.outbound.dns_lookup import ForbiddenAddress, NoSuchHost, NotPublic, Unresolvable
from storage.outbound.download import DownloadFailed, WriteFailed, download
from storage.outbound.parse_url import InvalidURL, parse_url
from storage.outbound.safe_http import NoAnswer
from worker.engine import ModelNotLoaded
from worker.engine.loading.weights import check_whole

log = structlog.get_logger(__name__)

DOWNLOAD_TIMEOUT_S = 600.0
ENDING = ".safetensors"


class LoraNotFetched(DarkroomError):
    """The file can't be had, or is no safetensors file. The message is for the client."""


class LoraDownloads(Mapping[str, Path]):
    """URL → file, of what is in the folder now. Threads and workers may share the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        hosts: frozenset[str],
        max_bytes: int,
        max_folder_bytes: int,
        allow: AllowList = AllowList(setting=""),  # noqa: B008 (frozen): public addresses only
    ) -> None:
        """`hosts`: those that LORA_ALLOW names. `max_bytes`: of one file."""
        self._folder = folder.expanduser()
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._max_folder_bytes = max_folder_bytes
        self._allow = allow

    def fetch(self, url: str) -> None:
        """Bring a file into the folder, unless it is there. Raises LoraNotFetched."""
        if url in self:
            with suppress(OSError):
                os.utime(self._file_of(url))  # the least recently used goes first
            return
        try:
            host = parse_url(url).host  # messages name no more of the URL: its query may hold a key
        except InvalidURL as error:
            raise LoraNotFetched(f"A LoRA can't be fetched: {error}.") from None
        if host not in self._hosts:
            raise LoraNotFetched(f"LoRAs of {host} are not taken by this worker: see LORA_ALLOW.")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part") as part:
                size_bytes = download(
                    url, part, allow=self._allow, max_bytes=self._max_bytes, timeout_s=DOWNLOAD_TIMEOUT_S
                )
                part.flush()
                check_whole(Path(part.name))
                os.link(part.name, self._file_of(url))  # atomic: the file is never visible half-written
        except FileExistsError:
            return  # another thread has downloaded it
        except (InvalidURL, ForbiddenAddress, NoSuchHost, NotPublic, Unresolvable, NoAnswer, DownloadFailed) as error:
            raise LoraNotFetched(f"The LoRA from {host} can't be fetched: {error}.") from None
        except ModelNotLoaded:
            raise LoraNotFetched(f"The LoRA from {host} is no whole safetensors file.") from None
        except (WriteFailed, OSError) as error:
            log.warning("lora.not_kept", folder=str(self._folder), reason=str(error))
            raise LoraNotFetched(f"The worker has no room for the LoRA from {host}.") from None
        log.info("lora.fetched", host=host, size_bytes=size_bytes)
        self._make_room(keep=self._file_of(url))

    def __getitem__(self, url: str) -> Path:
        file = self._file_of(url)
        if not file.is_file():
            raise KeyError(url)
        return file

    def __iter__(self) -> Iterator[str]:
        """Yields nothing: the folder doesn't store the URLs, and messages must not show them to other clients."""
        return iter(())

    def __len__(self) -> int:
        return 0

    def _file_of(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()}{ENDING}"

    def _make_room(self, *, keep: Path) -> None:
        """Delete the least recently used files until the folder is within its limit."""
        files = []
        for file in self._folder.glob(f"*{ENDING}"):
            with suppress(OSError):  # another worker has deleted it
                found = file.stat()
                files.append((found.st_mtime, found.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self._max_folder_bytes:
                return
            if file != keep:
                file.unlink(missing_ok=True)
                total -= size
