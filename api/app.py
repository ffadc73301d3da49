"""`create_app()`: the only wiring."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from psycopg import Error as PostgresError

from api import account, errors, request_span, webhook_secret
from api.auth import Authentication
from api.browsers import cors
from api.browsers.cross_site import CrossSite
from api.browsers.origins import Origins
from api.browsers.own_hosts import OwnHosts
from api.docs import pages as docs
from api.files import uploads
from api.files import views as files
from api.live import own_streams, streams
from api.live.access_watch import AccessWatch
from api.live.queue_position import QueuePositions
from api.models import deployments, hardware, warm
from api.models import views as models
from api.models.run_counts import RunCounts
from api.openai import edits, images
from api.openai import errors as openai_errors
from api.operator import deliveries as webhook_deliveries
from api.operator import health, metrics, status, usage
from api.page import views as page
from api.pictures import large_bodies
from api.pictures.decode import BYTES_A_PIXEL
from api.pictures.fetch import allowed_sources
from api.pictures.memory import PictureMemory
from api.pictures.sent import close_sent
from api.predictions import views as predictions
from api.server.request.uploads import MAY_UPLOAD
from api.services import KEY, Services
from api.settings import ApiSettings
from api.slots import Slots
from storage import logs, tracing
from storage.catalog import load_catalog
from storage.errors import OperatorError
from storage.outbound.check_url import AllowList
from storage.outbound.denied_servers import DeniedServers
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import open_pool
from storage.postgres.listener import EventListener
from storage.postgres.pooler import wait_for_pooler
from storage.postgres.schema_revision import check
from storage.predictions.render import open_renderer
from storage.s3.bucket import Bucket
from storage.webhooks.allowed_targets import AllowedTargets

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class _App(Flask):
    """Flask without the look at each function of each request whether it is `async`: none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: ApiSettings | None = None, *, bound_to: str = "127.0.0.1") -> Flask:
    """The API as a WSGI application. `bound_to` is the address that the server listens on.

    Raises OperatorError where something has to be set up first.
    """
    settings = settings or ApiSettings()  # from the environment
    logs.configure("api", log_format=settings.log_format, level=settings.log_level)
    tracing.start(settings, "api")
    catalog = load_catalog(settings.models)
    origins = Origins.parse(settings.cors_origins)
    own_hosts = OwnHosts(bound_to=bound_to, public_url=settings.public_url, allowed_hosts=settings.allowed_hosts)
    check(settings)
    wait_for_pooler(settings)
    if settings.secret_key is None:
        log.warning("secrets.not_encrypted", hint="set SECRET_KEY (openssl rand -hex 32), the same for every role")
    pool = open_pool(settings, application_name="darkroom api")
    try:
        with pool.connection() as conn:
            renderer = open_renderer(settings, conn)
    except PostgresError as error:
        pool.close()
        raise OperatorError(f"Postgres can't be used: {error}") from error
    events = EventListener(settings.direct_url, name="api")
    bucket = Bucket(settings)
    clock = DatabaseClock(pool)

    app = _App("darkroom", static_folder=None)
    app.url_map.merge_slashes = False  # else `//v1//predictions` is redirected to whatever Host the client has named
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.ensure_ascii = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    services = app.extensions[KEY] = Services(
        settings=settings,
        catalog=catalog,
        pool=pool,
        clock=clock,
        bucket=bucket,
        events=events,
        renderer=renderer,
        answers=replace(renderer, presign=bucket.presign) if bucket.presigns else renderer,
        webhook_targets=_allowed_targets(settings),
        positions=QueuePositions(pool, events, catalog, clock),
        run_counts=RunCounts(pool),
        access_watch=AccessWatch(pool, is_always_open=settings.auth == "none"),
        waiting=Slots(settings.api_max_waiting),
        streaming=Slots(settings.api_max_streams),
        fetching=Slots(settings.api_max_fetches),
        picture_memory=PictureMemory(BYTES_A_PIXEL * settings.max_input_image_pixels),
        picture_sources=_picture_sources(settings),
    )
    errors.register(app)
    metrics.register(app, services)
    app.before_request(_name_request)
    request_span.register(app)
    authentication = Authentication(settings, pool)
    CrossSite(own_hosts, origins, settings.public_url, is_open=authentication.is_open).register(app)
    authentication.register(app)
    app.extensions[MAY_UPLOAD] = authentication.may_upload
    large_bodies.register(app)
    cors.register(app, origins)
    for prefix in ("/v1", ""):  # Replicate's 1.x client wants a base URL without /v1, the others with it
        name = prefix.strip("/") or "root"
        app.register_blueprint(account.blueprint, url_prefix=prefix, name=f"account-{name}")
        app.register_blueprint(deployments.blueprint, url_prefix=prefix, name=f"deployments-{name}")
        app.register_blueprint(hardware.blueprint, url_prefix=prefix, name=f"hardware-{name}")
        app.register_blueprint(images.blueprint, url_prefix=prefix, name=f"images-{name}")
        app.register_blueprint(edits.blueprint, url_prefix=prefix, name=f"edits-{name}")
        app.register_blueprint(models.blueprint, url_prefix=prefix, name=f"models-{name}")
        app.register_blueprint(own_streams.blueprint, url_prefix=prefix, name=f"own-streams-{name}")
        app.register_blueprint(predictions.blueprint, url_prefix=prefix, name=f"predictions-{name}")
        app.register_blueprint(streams.blueprint, url_prefix=prefix, name=f"streams-{name}")
        app.register_blueprint(uploads.blueprint, url_prefix=prefix, name=f"uploads-{name}")
        app.register_blueprint(warm.blueprint, url_prefix=prefix, name=f"warm-{name}")
        app.register_blueprint(webhook_secret.blueprint, url_prefix=prefix, name=f"webhook-secret-{name}")
        app.register_blueprint(usage.blueprint, url_prefix=prefix, name=f"usage-{name}")
        app.register_blueprint(webhook_deliveries.blueprint, url_prefix=prefix, name=f"webhook-deliveries-{name}")
    app.register_blueprint(files.blueprint, url_prefix="/v1")
    app.register_blueprint(status.blueprint, url_prefix="/v1")  # /status is the page
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(page.blueprint)
    app.teardown_request(close_sent)
    app.after_request(_name_response)
    app.after_request(openai_errors.say_errors_as_openai_does)
    services.access_watch.start()  # last: a setting that is refused above must leave no thread behind
    events.start()
    return app


def close(app: Flask) -> None:
    """Give back what `create_app` opened."""
    found = app.extensions[KEY]
    assert isinstance(found, Services)
    found.events.stop()
    found.access_watch.stop()
    found.pool.close()
    tracing.stop()


def _allowed_targets(settings: ApiSettings) -> AllowedTargets:
    try:
        return AllowedTargets.of(settings)
    except ValueError as error:
        raise OperatorError(f"{error}.") from None


def _picture_sources(settings: ApiSettings) -> AllowList:
    try:
        return allowed_sources(settings.input_image_allow, DeniedServers.from_settings(settings))
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
