"""`create_app()`: the only wiring."""

from __future__ import annotations

import re
import secrets

import structlog
from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from psycopg import Error as PostgresError

from api import account, cors, errors, files, models, predictions, webhook_secret
from api.auth import Doorkeeper
from api.docs import pages as docs
from api.live import streams
from api.live.queue_position import QueuePositions
from api.openai import images
from api.operator import deliveries as webhook_deliveries
from api.operator import health, metrics
from api.services import KEY, Services
from api.settings import ApiSettings
from api.slots import Places
from storage import logs
from storage.bucket import Bucket
from storage.catalog import load_catalog
from storage.errors import OperatorError
from storage.postgres.database import open_pool
from storage.postgres.listener import Hub
from storage.postgres.migrate import check
from storage.predictions.render import open_wire
from storage.webhooks.addresses import AllowList

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def create_app(settings: ApiSettings | None = None) -> Flask:
    """The API as a WSGI application. Raises OperatorError where something has to be set up first."""
    settings = settings or ApiSettings()  # from the environment
    logs.configure("api", log_format=settings.log_format, level=settings.log_level)
    catalog = load_catalog(settings.models)
    check(settings)
    if settings.secret_key is None:
        log.warning("secrets.not_encrypted", hint="set SECRET_KEY (openssl rand -hex 32), the same for every role")
    pool = open_pool(settings, application_name="darkroom api")
    try:
        with pool.connection() as conn:
            wire = open_wire(settings, conn)
    except PostgresError as error:
        pool.close()
        raise OperatorError(f"Postgres can't be used: {error}") from error
    hub = Hub(settings.direct_url, name="api")

    app = Flask("darkroom", static_folder=None)
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.ensure_ascii = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    services = app.extensions[KEY] = Services(
        settings=settings,
        catalog=catalog,
        pool=pool,
        bucket=Bucket(settings),
        hub=hub,
        wire=wire,
        webhook_allow=_parse_allow_list(settings.webhook_allow),
        positions=QueuePositions(pool, hub),
        waiting=Places(settings.api_max_waiting),
        streaming=Places(settings.api_max_streams),
    )
    errors.register(app)
    metrics.register(app, services)
    app.before_request(_name_request)
    Doorkeeper(settings, pool).register(app)
    cors.register(app, settings.cors_origins)
    for prefix in ("/v1", ""):  # Replicate's 1.x client wants a base URL without /v1, the others with it
        name = prefix.strip("/") or "root"
        app.register_blueprint(account.blueprint, url_prefix=prefix, name=f"account-{name}")
        app.register_blueprint(images.blueprint, url_prefix=prefix, name=f"images-{name}")
        app.register_blueprint(models.blueprint, url_prefix=prefix, name=f"models-{name}")
        app.register_blueprint(predictions.blueprint, url_prefix=prefix, name=f"predictions-{name}")
        app.register_blueprint(streams.blueprint, url_prefix=prefix, name=f"streams-{name}")
        app.register_blueprint(webhook_secret.blueprint, url_prefix=prefix, name=f"webhook-secret-{name}")
        app.register_blueprint(webhook_deliveries.blueprint, url_prefix=prefix, name=f"webhook-deliveries-{name}")
    app.register_blueprint(files.blueprint, url_prefix="/v1")
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(docs.blueprint)
    app.after_request(_name_response)
    app.after_request(images.say_errors_as_openai_does)
    hub.start()  # last: a setting that is refused above must leave no thread behind
    return app


def close(app: Flask) -> None:
    """Give back what `create_app` opened."""
    found = app.extensions[KEY]
    assert isinstance(found, Services)
    found.hub.stop()
    found.pool.close()


def _parse_allow_list(text: str) -> AllowList:
    try:
        return AllowList.parse(text)
    except ValueError as error:
        raise OperatorError(f"{error}.") from None


def _name_request() -> None:
    """A request id on every log line: the client's own, where it has a decent one."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _name_response(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
