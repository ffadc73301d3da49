"""A FastAPI handler that hands the drawing to PgQueuer: the other queue on Postgres with LISTEN/NOTIFY.

`app` is the API; as a program, this file is the worker. DATABASE_URL is for both.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
from fastapi import FastAPI
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from request import Request

queries: Queries


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    global queries
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=8) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        yield


app = FastAPI(lifespan=connected)


@app.post("/v1/predictions", status_code=201)
async def create(request: Request) -> dict[str, Any]:
    prediction_id = str(uuid.uuid4())
    inputs = request.input.model_dump()
    await queries.enqueue("draw", json.dumps({"id": prediction_id, "model": request.model, "input": inputs}).encode())
    return {
        "id": prediction_id,
        "status": "starting",
        "model": request.model,
        "input": inputs,
        "created_at": datetime.now(UTC).isoformat(),
    }


async def work() -> None:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))

    @queue.entrypoint("draw")
    async def draw(job: Job) -> None:
        assert job.payload is not None
        print(json.loads(job.payload)["input"]["seed"], time.time(), flush=True)

    await queue.run()


if __name__ == "__main__":
    asyncio.run(work())
