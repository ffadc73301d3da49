"""The stock Procrastinate worker of the webhook queue, with connections of its own, and a stop that arrives.

A cancel may get lost on its way: psycopg_pool takes one for a connection that broke, and Python 3.11's asyncio.wait_for
drops one that comes together with what it waits for. So a worker that runs is told by its own event, and what has to be
cancelled is cancelled until it has heard.
"""

import asyncio
import time
from collections.abc import Callable

import procrastinate
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import Worker

from storage.postgres.connecting import AsyncCursor, connect_options
from storage.postgres.database import POOL_PATIENCE_S, connect, make_async_pool
from storage.postgres.procrastinate import WEBHOOK_QUEUE
from storage.settings import Settings

WORKER_NAME = "courier"
POLL_EVERY_S = 1.0

# Jobs at once beside those that POST: they look for what is due, or prune, while every slot is taken.
SPARE_JOBS = 2
TELL_AGAIN_AFTER_S = 0.2


class QueueWorker:
    """From the opening of its connections to their close, as a task of the running loop."""

    def __init__(self, app: procrastinate.App, settings: Settings, *, grace_s: float) -> None:
        self._app = app
        self._settings = settings
        self._grace_s = grace_s
        self._stock: Worker | None = None
        self._closes = False
        self.task = asyncio.create_task(self._run())

    async def stop_within(self, seconds: float) -> None:
        """Have it finish its jobs and close its connections; return when it has, or when the time is up."""
        await self._tell_until_done(self._tell_to_stop, seconds)

    async def cancel_within(self, seconds: float) -> None:
        """The same, for one that did not stop: its jobs are left."""
        await self._tell_until_done(self._cancel, seconds)

    async def _run(self) -> None:
        await asyncio.to_thread(_check_database, self._settings)
        connector = procrastinate.PsycopgConnector(
            conninfo=self._settings.direct_url,  # it listens, which poolers break
            pool_factory=make_async_pool,
            kwargs={
                "application_name": "darkroom-courier-queue",
                "cursor_factory": AsyncCursor,
                **connect_options(self._settings.direct_url),
            },
            min_size=1,
            max_size=4,
            timeout=POOL_PATIENCE_S,
            reconnect_timeout=POOL_PATIENCE_S,
        )
        with self._app.replace_connector(connector) as app:
            try:  # not `async with app.open_async()`: cancelled while it opens, that leaves a pool which nothing ends
                await app.open_async()
                self._stock = Worker(
                    app,
                    name=WORKER_NAME,
                    queues=[WEBHOOK_QUEUE],
                    concurrency=self._settings.webhook_concurrency + SPARE_JOBS,
                    fetch_job_polling_interval=POLL_EVERY_S,
                    delete_jobs=DeleteJobCondition.SUCCESSFUL,
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=self._grace_s,
                )
                await self._stock.run()  # type: ignore[no-untyped-call] # Procrastinate has not annotated it
            finally:
                self._closes = True
                await app.close_async()

    def _tell_to_stop(self) -> None:
        if self._stock is not None:
            self._stock.stop()  # type: ignore[no-untyped-call] # Procrastinate has not annotated it
        else:
            self._cancel()

    def _cancel(self) -> None:
        if not self._closes:
            self.task.cancel()

    async def _tell_until_done(self, tell: Callable[[], None], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.task.done() and time.monotonic() < end:
            tell()
            await asyncio.wait({self.task}, timeout=TELL_AGAIN_AFTER_S)


def _check_database(settings: Settings) -> None:
    """Raises psycopg.OperationalError at once, where the worker's pool would wait for half a minute."""
    connect(settings.direct_url, application_name="darkroom-courier-check").close()
