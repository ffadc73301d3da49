"""The courier's Procrastinate tasks."""

import procrastinate
import psycopg
import structlog

from courier.deliver import Deliverer
from storage.postgres.procrastinate import TASK_DELIVER, WEBHOOK_QUEUE
from storage.webhooks import outbox as deliveries

log = structlog.get_logger(__name__)

TASK_PRUNE_JOBS = "darkroom:prune_jobs"
EVERY_MINUTE = "* * * * *"


def add_tasks(app: procrastinate.App, deliverer: Deliverer) -> None:
    """Give an App the tasks of this courier. They are sync functions: Procrastinate runs them in threads."""

    @app.task(name=TASK_DELIVER, queue=WEBHOOK_QUEUE)
    def deliver(delivery_id: str) -> None:
        """The job is only the bell: what is delivered is what has its turn (`storage.webhooks.outbox`)."""
        deliverer.deliver_due()

    # Procrastinate's worker needs at least one periodic task: its deferrer returns at once where there is none.
    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name=TASK_PRUNE_JOBS, queue=WEBHOOK_QUEUE)
    def prune_jobs(timestamp: int) -> None:
        try:
            with deliverer.pool.connection() as conn:
                pruned = deliveries.prune_jobs(conn)
        except psycopg.Error as error:  # a minute later it is tried again
            log.warning("jobs not pruned", error=" ".join(str(error).split()))
            return
        if pruned:
            log.info("pruned jobs of the webhook queue", count=pruned)
