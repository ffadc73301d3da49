"""The tables. Alembic compares them with the database; the SQL that works on them stands in its own modules."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.access.scopes import Scope
from storage.webhooks import states
from storage.webhooks.events import EVENTS

NOW = text("clock_timestamp()")


class Table(DeclarativeBase):
    """What all tables share: constraint names that a migration can count on, and column types."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy wants a plain class attribute)
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class Prediction(Table):
    """One request for images, and the truth about it. The queue is only its bell."""

    __tablename__ = "predictions"

    id: Mapped[str] = mapped_column(primary_key=True)  # a ULID, 26 lower-case characters
    status: Mapped[str]
    model: Mapped[str]  # owner/name
    version: Mapped[str]
    queue_name: Mapped[str]
    queue_job_id: Mapped[int | None] = mapped_column(BigInteger)  # the bell, live while that job is `todo`
    priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Within a priority, the smallest is drawn first. How it is chosen stands in migration 0014.
    start_tag: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    source: Mapped[str] = mapped_column(server_default="api")

    input: Mapped[dict[str, Any]]  # as the client sent it, unknown keys left out
    parameters: Mapped[dict[str, Any]]  # what is drawn: input completed by the model's defaults, with its seed
    logs: Mapped[str] = mapped_column(server_default="")
    error: Mapped[str | None]
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    data_removed: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    keep: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))  # retention spares it
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb")
    )  # the client's own
    deleted_at: Mapped[datetime | None]  # by its owner; from then on it is in no answer
    cache_key: Mapped[str | None]  # of `storage.predictions.repeats.result_cache`: what is equal but for the seed

    webhook: Mapped[str | None]
    webhook_events: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))

    # Whose it is: NULL where the API was open to everybody. No foreign key, since tokens are never deleted and
    # its check would lock the token's row in every submit.
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    idempotency_key: Mapped[str | None]
    traceparent: Mapped[str | None]  # of the span that submitted it; NULL: not traced
    request_hash: Mapped[str | None]  # of route and body, where there is a key

    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]  # of the latest claim
    completed_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]

    # The claim: who draws it, and until when that is believed.
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    crashes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    claim_id: Mapped[UUID | None]
    worker_id: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]  # 'epoch': its process is known to be dead

    __table_args__ = (
        CheckConstraint("status IN ('starting', 'processing', 'succeeded', 'failed', 'canceled')", name="status"),
        # A claim is held exactly while it is drawn.
        CheckConstraint(
            "(status = 'processing') = (claim_id IS NOT NULL AND lease_expires_at IS NOT NULL)", name="claim"
        ),
        CheckConstraint("(status IN ('starting', 'processing')) = (completed_at IS NULL)", name="completed_at"),
        # Newest first is how the list is read; ULIDs sort by time, the id breaks ties.
        Index("ix_predictions_created_at_id", "created_at", "id"),
        # What rescue looks through every second: only what is not over.
        Index("ix_predictions_lease", "lease_expires_at", postgresql_where=text("status = 'processing'")),
        Index(
            "ix_predictions_deadline",
            "deadline_at",
            postgresql_where=text("status IN ('starting', 'processing')"),
        ),
        # What retention looks through: the ended ones that still hold data.
        Index("ix_predictions_retention", "completed_at", postgresql_where=text("NOT data_removed AND NOT keep")),
        # What failed lately, and why.
        Index("ix_predictions_failed", "completed_at", postgresql_where=text("status = 'failed'")),
        Index("ix_predictions_waiting", "model", "created_at", postgresql_where=text("status = 'starting'")),
        # The list of one token, and how many of its predictions wait.
        Index("ix_predictions_token_id_created_at_id", "token_id", "created_at", "id"),
        Index("ix_predictions_queued", "token_id", postgresql_where=text("status = 'starting'")),
        Index(
            "uq_predictions_idempotency_key",
            "token_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        # Looked up in every submit: what is equal and was drawn, the newest first.
        Index(
            "ix_predictions_cache_key",
            "cache_key",
            "completed_at",
            postgresql_where=text("status = 'succeeded' AND cache_key IS NOT NULL"),
        ),
    )


class SearchWindow(Table):
    """A stretch of time that a search looks at as a whole; migration 0016 says why. It ends where the next begins."""

    __tablename__ = "search_windows"

    number: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(unique=True)  # the first one: -infinity. Compare it in SQL.
    # Whether all its predictions that have ended are in prediction_terms.
    filled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))


class PredictionTerms(Table):
    """What a prediction that has ended is found by, written by triggers of migration 0016."""

    __tablename__ = "prediction_terms"

    prediction_id: Mapped[str] = mapped_column(ForeignKey("predictions.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime]  # of the prediction
    terms: Mapped[str] = mapped_column(TSVECTOR)

    __table_args__ = (
        Index("ix_prediction_terms_terms", "terms", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )


class Object(Table):
    """One file in the bucket."""

    __tablename__ = "objects"

    key: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]  # hexadecimal
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    content_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    missing_since: Mapped[datetime | None]  # the bucket could not give its bytes, and has not since
    # Of what clients send: when a request last began to store it. Retention spares it for a while, since the request
    # refers to it only when it is stored. NULL: drawn here.
    sent_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_objects_missing", "missing_since", postgresql_where=text("missing_since IS NOT NULL")),)


class ObjectTombstone(Table):
    """A file that no row refers to, until S3 has confirmed that its bytes are gone."""

    __tablename__ = "object_tombstones"

    key: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)  # or when S3 last refused


class Image(Table):
    """One picture of a prediction that succeeded."""

    __tablename__ = "images"

    prediction_id: Mapped[str] = mapped_column(ForeignKey("predictions.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)  # from 0, the order of `output`
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)
    thumbnail_key: Mapped[str | None] = mapped_column(ForeignKey("objects.key"), index=True)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    seed: Mapped[int] = mapped_column(BigInteger)


class InputImage(Table):
    """A picture that a prediction starts from; its object's name is the SHA-256 in the prediction's parameters."""

    __tablename__ = "input_images"

    prediction_id: Mapped[str] = mapped_column(ForeignKey("predictions.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)  # image, image_2 and so on, or mask
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)
    # The description that `input` shows of a picture that the request carried; NULL: it came from a URL.
    sent_as: Mapped[str | None] = mapped_column(index=True)


class File(Table):
    """A file that a client has uploaded, to name it in a later request."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(primary_key=True)  # a ULID, 26 lower-case characters
    token_id: Mapped[int | None] = mapped_column(BigInteger)  # NULL: uploaded while the API was open to everybody
    name: Mapped[str]
    object_key: Mapped[str] = mapped_column(ForeignKey("objects.key"), index=True)
    md5: Mapped[str]  # hexadecimal; the SHA-256 is the object's
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(index=True)  # NULL: never

    __table_args__ = (Index("ix_files_token_id_created_at_id", "token_id", "created_at", "id"),)


class WebhookDelivery(Table):
    """One event for one receiver: its body is fixed when it is written, and the same in every attempt."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)  # msg_ and a ULID: the webhook-id
    prediction_id: Mapped[str] = mapped_column(ForeignKey("predictions.id", ondelete="CASCADE"), index=True)
    token_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # of the prediction; 0: it has none
    host: Mapped[str] = mapped_column(server_default="")  # of the URL, as storage.outbound.parse_url reads it
    event: Mapped[str]
    url: Mapped[str]
    body: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
    locked_until: Mapped[datetime | None]
    queue_job_id: Mapped[int | None] = mapped_column(BigInteger)
    last_attempt_at: Mapped[datetime | None]
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    # Its host has had an address that is not public: tokens see only whether it was delivered.
    is_private: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        CheckConstraint(f"event IN ({', '.join(map(repr, EVENTS))})", name="event"),
        CheckConstraint(f"status IN ({', '.join(map(repr, states.ALL))})", name="status"),
        # What failed lately.
        Index("ix_webhook_deliveries_failing", "last_attempt_at", postgresql_where=text("last_error IS NOT NULL")),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        # What couriers claim from: the tokens take turns.
        Index("ix_webhook_deliveries_turn", "token_id", "next_attempt_at", postgresql_where=text("status = 'pending'")),
    )


class SigningKey(Table):
    """The deployment's secrets: one kind signs webhooks of tokens that have no secret of their own, the other links."""

    __tablename__ = "signing_keys"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    purpose: Mapped[str]
    secret: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    retired_at: Mapped[datetime | None]  # still accepted or still signing until then

    __table_args__ = (
        CheckConstraint("purpose IN ('webhook', 'link')", name="purpose"),
        # Two processes that start at once must agree on the first key.
        Index("uq_signing_keys_active", "purpose", unique=True, postgresql_where=text("retired_at IS NULL")),
    )


class WebhookSecret(Table):
    """A token's own secrets, which sign the webhooks of its predictions."""

    __tablename__ = "webhook_secrets"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"), index=True)
    secret: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    retired_at: Mapped[datetime | None]  # it signs beside the newest one until then

    __table_args__ = (
        Index("uq_webhook_secrets_active", "token_id", unique=True, postgresql_where=text("retired_at IS NULL")),
    )


class Worker(Table):
    """A process that draws, as long as it lives; one that dies is removed by rescue."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    model: Mapped[str]
    device: Mapped[str | None]
    state: Mapped[str]
    images: Mapped[int | None] = mapped_column(Integer)  # that it draws at this moment
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)  # of its process, without the device's
    device_free_bytes: Mapped[int | None] = mapped_column(BigInteger)  # NULL: not counted, as on a CPU
    error: Mapped[str | None]  # why its model can't be loaded, or its bucket not be written
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        CheckConstraint("state IN ('loading', 'idle', 'drawing', 'draining', 'failed', 'standby')", name="state"),
    )


class LoadFailure(Table):
    """One try of a worker to load its model that failed; all of a model go when a worker is ready."""

    __tablename__ = "load_failures"

    worker_id: Mapped[UUID] = mapped_column(primary_key=True)  # a process tries once
    model: Mapped[str]
    reason: Mapped[str]  # for clients: without paths
    failed_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (Index("ix_load_failures_model_failed_at", "model", "failed_at"),)


class Token(Table):
    """What lets a client in. Only its digest is kept; a token is revoked, never deleted."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 of the whole token, hexadecimal
    shown: Mapped[str]  # its first characters, by which people know it again
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)  # NULL: the setting; 0: no limit
    max_queued: Mapped[int | None] = mapped_column(Integer)  # likewise
    max_images: Mapped[int | None] = mapped_column(Integer)  # likewise; of one prediction
    max_priority: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Of `storage.access.scopes`. The default is for tokens that a release before scopes makes: what they could do then.
    scopes: Mapped[list[str]] = mapped_column(server_default=text("'{draw,read,metrics}'::text[]"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime | None]  # to the minute
    revoked_at: Mapped[datetime | None]
    # Until then the deployment's secret signs its webhooks, beside its own if it has one. Tokens that were made before
    # tokens had secrets: 'infinity'. Others: '-infinity'. Compare it in SQL; Python's datetime knows neither.
    shared_secret_until: Mapped[datetime] = mapped_column(server_default=text("'infinity'"))

    __table_args__ = (
        CheckConstraint(f"scopes <@ '{{{','.join(Scope)}}}'::text[] AND array_length(scopes, 1) > 0", name="scopes"),
    )


class RateBucket(Table):
    """How many submits a token has left at that moment; it refills with time."""

    __tablename__ = "rate_buckets"

    token_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0: everybody
    left: Mapped[float] = mapped_column(Double)
    refilled_at: Mapped[datetime]


class ModelTotals(Table):
    """What the metrics count for a model since ever; triggers of revision 0004 add to it.

    The buckets of a histogram count what is at most their bound (`storage.operator.totals`), not added up.
    """

    __tablename__ = "model_totals"

    model: Mapped[str] = mapped_column(primary_key=True)
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    canceled: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_expiries: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    pickup_buckets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    pickup_seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))
    drawing_buckets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    drawing_seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))
    batch_buckets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    batch_sizes: Mapped[float] = mapped_column(Double, server_default=text("0"))


class UsageTotals(Table):
    """What a token has used of a model on a day (UTC), for accounts; triggers of revision 0019 add to it.

    It stays when predictions are deleted or lose their data.
    """

    __tablename__ = "usage_totals"

    day: Mapped[date] = mapped_column(primary_key=True)  # on which they ended
    token_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # 0: none
    model: Mapped[str] = mapped_column(primary_key=True)
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    canceled: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    images: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    steps: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # of each image
    gpu_seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))


class Activity(Table):
    """How much happened to a model in a minute or a quarter of an hour (`storage.operator.activity`)."""

    __tablename__ = "activity"

    span_s: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # 60 or 900
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)  # "": webhooks
    counts: Mapped[dict[str, Any]]


class WebhookTotals(Table):
    """How often each outcome of a webhook attempt was seen since ever; the same triggers add to it."""

    __tablename__ = "webhook_totals"

    outcome: Mapped[str] = mapped_column(primary_key=True)  # delivered, retried, failed
    attempts: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class StepCostRow(Table):
    """What one denoising step takes, learned on a kind of device, so that a fresh worker knows it."""

    __tablename__ = "step_costs"

    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    images: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    pixels: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # of all of them
    seconds: Mapped[float] = mapped_column(Double)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    samples: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class LoadTime(Table):
    """How long a worker took to start on a kind of device, measured by those that did."""

    __tablename__ = "load_times"

    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    boot_seconds: Mapped[float] = mapped_column(Double)  # from the start of the process to its row in `workers`
    load_seconds: Mapped[float] = mapped_column(Double)  # from there to its being ready
    joins_midway: Mapped[bool] = mapped_column(Boolean)  # drawings join others that have begun
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class ColdStart(Table):
    """How long the phases of workers' cold starts took, added up; see `storage.workers.cold_starts`."""

    __tablename__ = "cold_starts"

    model: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float] = mapped_column(Double)  # of all starts together
    buckets: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class DemandLease(Table):
    """A host is about to start a worker for a model, so that no other one does (`storage.workers.demand_leases`)."""

    __tablename__ = "demand_leases"
    __table_args__ = (Index("ix_demand_leases_model", "model"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    model: Mapped[str]
    host: Mapped[UUID]  # drawn by each host when it starts
    expires_at: Mapped[datetime]


class WarmRequest(Table):
    """Until when a worker of a model stays ready, by a request (`storage.workers.warm`)."""

    __tablename__ = "warm_requests"

    model: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[datetime]


class Deployment(Table):
    """A deployment of Replicate's API: how many workers of a model there are at least, and at most."""

    __tablename__ = "deployments"

    name: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    version: Mapped[str]  # the id of the version, as clients know it
    hardware: Mapped[str]  # shown as it was given
    min_instances: Mapped[int] = mapped_column(Integer)
    max_instances: Mapped[int] = mapped_column(Integer)
    release: Mapped[int] = mapped_column(Integer, server_default=text("1"))  # one more with every change
    released_at: Mapped[datetime] = mapped_column(server_default=NOW)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class CompatibleRevision(Table):
    """The schema revisions whose releases may run on this schema.

    Every migration adds its own; one that contracts the schema takes away those that it would break. That is how
    a release knows whether it can run on a database that a newer release has migrated.
    """

    __tablename__ = "darkroom_compatible_with"

    revision: Mapped[str] = mapped_column(primary_key=True)
