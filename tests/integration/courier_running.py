"""Couriers to test against: in threads of this process, or in a process of their own."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from courier.main import run_courier
from storage.settings import Settings
from tests.support.eventually import eventually


@contextmanager
def running(settings: Settings, *, couriers: int = 1) -> Iterator[None]:
    """Couriers in threads of this process."""
    stop = threading.Event()
    threads = [threading.Thread(target=run_courier, args=(settings,), kwargs={"stop": stop}) for _ in range(couriers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "the courier did not stop"


@contextmanager
def process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """A courier in a process of its own, yielded once it has taken its signals over."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "WEBHOOK_ALLOW": settings.webhook_allow,
        "WEBHOOK_TIMEOUT_S": str(settings.webhook_timeout_s),
        "WEBHOOK_RETRY_SCHEDULE": ",".join(map(str, settings.webhook_retry_schedule)),
    }
    program = "import sys; from storage.settings import Settings; from courier.main import run_courier; "
    program += "sys.exit(run_courier(Settings()))"
    with tempfile.NamedTemporaryFile() as log:
        courier = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: b"courier started" in Path(log.name).read_bytes())
            yield courier
        finally:
            if courier.poll() is None:
                courier.kill()
            courier.wait()
            sys.stderr.write(Path(log.name).read_text())
