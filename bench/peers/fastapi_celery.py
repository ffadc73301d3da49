"""What people build instead: a FastAPI handler that hands the drawing to Celery over Redis.

Run by the Python of another environment (bench/peers/requirements.txt). No result backend: with one, each `delay` would
subscribe to its result first. A plain `def` handler runs on FastAPI's threads, since `delay` waits for Redis.
"""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from fastapi import FastAPI
from request import Request

celery = Celery(broker=os.environ["BROKER_URL"])
celery.conf.worker_redirect_stdouts = False
app = FastAPI()


@celery.task(ignore_result=True)
def draw(prediction_id: str, model: str, inputs: dict[str, Any]) -> None:
    """Only tells when it begins: the seed and the time."""
    print(inputs["seed"], time.time(), flush=True)


@app.post("/v1/predictions", status_code=201)
def create(request: Request) -> dict[str, Any]:
    prediction_id = str(uuid.uuid4())
    draw.delay(prediction_id, request.model, request.input.model_dump())
    return {
        "id": prediction_id,
        "status": "starting",
        "model": request.model,
        "input": request.input.model_dump(),
        "created_at": datetime.now(UTC).isoformat(),
    }
