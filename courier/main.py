"""The courier's life: a stock Procrastinate worker that is always started again, and rescue beside it.

The stock worker can end without an error, die of a lost connection or miss a wake-up; so it is supervised, it
polls, and what it misses is rung again by rescue. It only ever takes jobs of the webhook queue.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import procrastinate
import psycopg
import structlog

from courier.deliver import Deliverer
from courier.queue_worker import SPARE_JOBS, WORKER_NAME, QueueWorker
from courier.rescue import keep_rescuing
from courier.retention import keep_retaining
from courier.search_index import keep_indexing
from courier.slots import Slots
from courier.tasks import add_tasks
from storage import tracing
from storage.access.sealing import open_sealer
from storage.backoff import Backoff
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import open_pool
from storage.postgres.procrastinate import make_async_app
from storage.settings import Settings
from storage.webhooks.allowed_targets import AllowedTargets

log = structlog.get_logger(__name__)

# After SIGTERM: POSTs in flight may end within the grace, then they are cut; the rest is tidying up. A process
# that still hangs (Postgres frozen) exits anyway: its locks run out, and rescue rings again.
GRACE_S = 3.5
TIDY_UP_S = 2.0
CANCEL_S = 1.0
EXIT_ANYWAY_AFTER_S = 7.0

# The worker that ended is started again after this long; longer where it keeps ending at once.
MIN_RESTART_AFTER_S = 0.5
MAX_RESTART_AFTER_S = 5.0
HEALTHY_AFTER_S = 30.0

# Beside the threads that deliver: asyncio resolves host names in the same executor.
SPARE_THREADS = 4 + SPARE_JOBS


def run_courier(settings: Settings, *, stop: threading.Event | None = None) -> int:
    """Deliver and rescue until SIGTERM or SIGINT (or `stop` is set), through any failure of the database.

    Returns 0. Signals are only taken in the main thread. Raises ValueError when WEBHOOK_ALLOW or
    WEBHOOK_DENY can't be read.
    """
    stop = stop or threading.Event()
    for name in (f"procrastinate.worker.{WORKER_NAME}", "procrastinate.utils", "asyncio"):
        logging.getLogger(name).addFilter(_shorten_database_errors)
    tracing.start(settings, "courier")
    pool = open_pool(settings, application_name="darkroom-courier")
    deliverer = Deliverer(
        pool=pool,
        clock=DatabaseClock(pool),
        sealer=open_sealer(settings),
        targets=AllowedTargets.of(settings),
        schedule_s=settings.webhook_retry_schedule,
        timeout_s=settings.webhook_timeout_s,
        slots=Slots(settings.webhook_concurrency),
        stopping=stop,
    )
    rescue = threading.Thread(target=keep_rescuing, args=(settings, stop), name="rescue", daemon=True)
    rescue.start()
    retention = threading.Thread(target=keep_retaining, args=(settings, stop), name="retention", daemon=True)
    retention.start()
    search_index = threading.Thread(target=keep_indexing, args=(settings, stop), name="search_index", daemon=True)
    search_index.start()
    exit_anyway = threading.Timer(EXIT_ANYWAY_AFTER_S, os._exit, args=(0,))
    exit_anyway.daemon = True
    try:
        asyncio.run(_supervise(settings, deliverer, stop, exit_anyway))
    finally:
        stop.set()
        deliverer.interrupted.set()
        deliverer.pool.close(timeout=TIDY_UP_S)
        rescue.join(TIDY_UP_S)
        retention.join(TIDY_UP_S)
        search_index.join(TIDY_UP_S)
        tracing.stop()
        exit_anyway.cancel()
    log.info("courier stopped")
    return 0


async def _supervise(
    settings: Settings, deliverer: Deliverer, stop: threading.Event, exit_anyway: threading.Timer
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(
        ThreadPoolExecutor(settings.webhook_concurrency + SPARE_THREADS, thread_name_prefix="courier")
    )
    with _signals_set(stop, exit_anyway):
        app = make_async_app(settings)
        add_tasks(app, deliverer)
        backoff = Backoff(MIN_RESTART_AFTER_S, at_most_s=MAX_RESTART_AFTER_S)
        log.info("courier started", concurrency=settings.webhook_concurrency)
        while not stop.is_set():
            started_at = time.monotonic()
            worker = QueueWorker(app, settings, grace_s=GRACE_S)
            while not worker.task.done() and not stop.is_set():
                await asyncio.wait({worker.task}, timeout=0.2)
            if stop.is_set():
                await _stop_worker(worker, deliverer)
                return
            _log_why_it_ended(worker.task)
            if time.monotonic() - started_at > HEALTHY_AFTER_S:
                backoff.reset()
            await _sleep(backoff.next_s(), stop)


async def _stop_worker(worker: QueueWorker, deliverer: Deliverer) -> None:
    await worker.stop_within(GRACE_S)
    deliverer.interrupted.set()
    await worker.stop_within(TIDY_UP_S)
    await worker.cancel_within(CANCEL_S)
    task = worker.task
    if task.done() and not task.cancelled() and (error := task.exception()):
        log.warning("the queue's worker broke while it stopped", error=repr(error))


def _log_why_it_ended(worker: asyncio.Task[None]) -> None:
    error = worker.exception()
    if error is None:
        log.warning("the queue's worker ended by itself and is started again")
    elif isinstance(error, psycopg.OperationalError | procrastinate.exceptions.ConnectorException):
        log.warning("the queue's worker has no database", error=_on_one_line(error.__cause__ or error))
    else:
        log.error("the queue's worker broke and is started again", exc_info=error)


async def _sleep(seconds: float, stop: threading.Event) -> None:
    end = time.monotonic() + seconds
    while not stop.is_set() and time.monotonic() < end:
        await asyncio.sleep(0.1)


def _shorten_database_errors(record: logging.LogRecord) -> bool:
    """Procrastinate tells of each lost connection with pages of traceback; one line says the same."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, procrastinate.exceptions.ConnectorException):
        # asyncio's: Procrastinate leaves the task of a job, whose outcome it couldn't write, to the garbage collector.
        what = "A job lost its connection:" if record.name == "asyncio" else " ".join(record.getMessage().split())
        record.msg, record.args = "%s %s", (what, _on_one_line(error.__cause__ or error))
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
    return True


def _on_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _signals_set(stop: threading.Event, exit_anyway: threading.Timer) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, and see to it that the process ends even if something hangs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            exit_anyway.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
