"""The operations of the API as `/openapi.json` and `/docs` tell them: one entry each, in the order of the page.

A test holds this table against the routes, so that none is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from api.docs.answers import (
    Deployment,
    DeploymentPage,
    KeptWarm,
    OpenAIError,
    Prediction,
    PredictionPage,
    ProblemDocument,
    Usage,
)
from api.docs.forms import EditForm, FileAnswer, FileForm, FilePage, VariationForm
from api.openai.schemas import ImageRequest
from api.parsing.list_request import MAX_SEARCH_CHARS
from api.parsing.list_request import PARAMETERS as LIST_PARAMETERS
from api.schemas import DeploymentChange, DeploymentRequest, KeepRequest, PredictionRequest, WarmRequest
from storage.predictions.states import PredictionStatus
from storage.webhooks.history import STATUSES

PARAMETERS: dict[str, dict[str, object]] = {
    "Prefer": {
        "example": "wait=30",
        "description": "Wishes: `wait` or `wait=60` at most, and `warm` or `warm=3600` at most: the "
        "model stays ready for so many seconds. Anything else is ignored.",
    },
    "Cancel-After": {
        "pattern": r"^([5-9]|[1-9][0-9]{1,5})s?$"
        r"|^[1-9][0-9]{0,2}h([0-9]{1,4}m)?([0-9]{1,4}s)?$|^[1-9][0-9]{0,3}m([0-9]{1,4}s)?$",
        "example": "90s",
    },
    "Idempotency-Key": {"pattern": "^[!-~]{1,255}$", "example": "order-17"},
    "X-Darkroom-Strict": {"enum": ["1"]},
    "Range": {"pattern": "^bytes=[0-9]{1,9}-[0-9]{0,9}$", "example": "bytes=0-1023"},
    "If-None-Match": {"pattern": '^"[0-9a-f]{64}"$'},
    "cursor": {"description": "From `next` or `previous`, as it is."},
    "source": {"enum": ["api", "web"], "description": "How they were made. All are made with the API so far."},
    "created_after": {"format": "date-time"},
    "created_before": {"format": "date-time"},
    "status": {"enum": list(STATUSES)},
    "prediction_id": {"pattern": "^[0-9a-hjkmnp-tv-z]{26}$"},
    "from": {"format": "date", "example": "2026-01-01", "description": "The first day, UTC."},
    "to": {"format": "date", "example": "2026-01-31", "description": "The last day, today by default."},
    "by": {"pattern": "^(day|token|model)(,(day|token|model)){0,2}$", "example": "day,model"},
    "format": {"enum": ["json", "csv"]},
    "expires": {"pattern": "^[0-9]{1,12}$"},
    "signature": {"pattern": "^[0-9a-f]{64}$"},
}
# Of the list of predictions.
FILTERS: dict[str, dict[str, object]] = {
    "limit": {"pattern": "^([1-9][0-9]?|100)$", "description": "Predictions on a page: 1 to 100 (the default)."},
    "q": {
        "maxLength": MAX_SEARCH_CHARS,
        "pattern": "^[^\\x00]*[A-Za-z0-9][^\\x00]*$",
        "description": "Words of the prompt. All of them must be in it; the last one may be the beginning of a word.",
    },
    "model": {"pattern": "^[a-z0-9]+/[a-z0-9]+$", "description": "owner/name, or an alias."},
    "status": {
        "pattern": f"^({'|'.join(PredictionStatus)})(,({'|'.join(PredictionStatus)}))*$",
        "description": "One or several, separated by commas.",
    },
    "metadata": {
        "pattern": r'^\{"[a-z]{1,64}":"[a-z0-9]{0,64}"\}$',
        "example": '{"project":"x"}',
        "description": "A JSON object whose pairs are all in the prediction's metadata.",
    },
    "keep": {"enum": ["true", "false"]},
}
SUBMIT_HEADERS = ("Prefer", "Cancel-After", "Idempotency-Key", "X-Darkroom-Strict")
SIGNED = ("expires", "signature")

JSON = "application/json"


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answers`: the schema by status; None for a body that is no JSON of ours."""

    method: str
    path: str
    summary: str
    answers: dict[int, type[BaseModel] | None]
    section: str = "Predictions"
    details: str = ""
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None  # a body that is multipart/form-data
    needs_body: bool = True
    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    parameters: dict[str, dict[str, object]] = field(default_factory=dict)  # instead of those in PARAMETERS
    media: str = JSON
    errors: tuple[int, ...] = ()
    error: type[BaseModel] = ProblemDocument
    is_open: bool = False
    example: dict[str, object] | None = None


_SUBMIT_ERRORS = (400, 413, 422, 429)

OPERATIONS = (
    Operation(
        "post", "/v1/predictions", "Draw", {201: Prediction}, body=PredictionRequest, headers=SUBMIT_HEADERS,
        errors=_SUBMIT_ERRORS, example={"input": {"prompt": "a red circle on a blue background"}},
        details="Answers at once, or with `Prefer: wait` when the picture is done. With an `Idempotency-Key`, the "
        "same request again is the same prediction.",
    ),
    Operation("get", "/v1/predictions", "List and search, newest first", {200: PredictionPage},
              query=LIST_PARAMETERS, parameters=FILTERS, errors=(422,),
              details="A prediction is listed if it passes all filters that are given."),
    Operation("get", "/v1/predictions/{prediction_id}", "Read one", {200: Prediction}, errors=(404,)),
    Operation("post", "/v1/predictions/{prediction_id}/cancel", "Cancel", {200: Prediction}, errors=(404,),
              details="At once; one that is over stays as it is."),
    Operation("delete", "/v1/predictions/{prediction_id}", "Delete", {204: None}, errors=(404,),
              details="It is canceled first if it isn't over. Its data and images go, and its webhooks are not sent."),
    Operation("post", "/v1/predictions/{prediction_id}/keep", "Keep beyond the retention time", {200: Prediction},
              body=KeepRequest, needs_body=False, errors=(400, 404, 410, 413, 422), example={"keep": True}),
    Operation(
        "post", "/v1/models/{owner}/{name}/predictions", "Draw with the model of the path", {201: Prediction},
        body=PredictionRequest, headers=SUBMIT_HEADERS, errors=(*_SUBMIT_ERRORS, 404),
        example={"input": {"prompt": "a red circle on a blue background"}},
    ),
    Operation("get", "/v1/predictions/{prediction_id}/events", "Progress as server-sent events", {200: None, 204: None},
              section="Live", media="text/event-stream", errors=(404,),
              details="queued, loading, progress, preview, output, done; the state as it is comes first."),
    Operation("get", "/v1/predictions/{prediction_id}/ws", "The same over a WebSocket", {101: None},
              section="Live", errors=(404, 426)),
    Operation("get", "/v1/events", "What happens to all your predictions, as server-sent events", {200: None},
              section="Live", media="text/event-stream", errors=(422,),
              details="ready, prediction, deleted, queued, loading, progress, preview. It never ends."),
    Operation("get", "/v1/events/ws", "The same over a WebSocket", {101: None}, section="Live", errors=(422, 426)),
    Operation("get", "/v1/files/{prediction_id}/stream", "Replicate's stream, by signed URL (`urls.stream`)",
              {200: None, 204: None}, section="Live", media="text/event-stream", query=SIGNED, errors=(403, 404),
              is_open=True),
    Operation("get", "/v1/files/{prediction_id}/events", "Progress, by signed URL", {200: None, 204: None},
              section="Live", media="text/event-stream", query=SIGNED, errors=(403, 404), is_open=True),
    Operation("get", "/v1/files/{prediction_id}/ws", "The same over a WebSocket", {101: None},
              section="Live", query=SIGNED, errors=(403, 404, 426), is_open=True),
    Operation("get", "/v1/files/{prediction_id}/{name}", "An image, by signed URL (`output`)",
              {200: None, 206: None, 304: None}, section="Files", media="image/*", query=SIGNED,
              headers=("Range", "If-None-Match"), errors=(403, 404, 410, 412, 416, 503), is_open=True,
              details="`ETag` is the SHA-256 of the file. One range of bytes is served as 206; for several, the whole "
              "file is served."),
    Operation("post", "/v1/files", "Upload a file", {201: FileAnswer}, section="Files", form=FileForm,
              errors=(400, 413, 415, 422), details="Name it in requests by its `urls.get` until it expires "
              "(`RETENTION_S`)."),
    Operation("get", "/v1/files", "Your uploaded files, newest first", {200: FilePage}, section="Files",
              query=("cursor",), errors=(422,)),
    Operation("get", "/v1/files/{file_id}", "An uploaded file", {200: FileAnswer}, section="Files", errors=(404,)),
    Operation("delete", "/v1/files/{file_id}", "Delete an uploaded file", {204: None}, section="Files", errors=(404,),
              details="Predictions that were made from it keep their own copy of the picture."),
    Operation("get", "/v1/files/{file_id}/download", "The bytes of an uploaded file, by signed URL (`urls.download`)",
              {200: None}, section="Files", media="application/octet-stream", query=SIGNED,
              errors=(403, 404, 410, 503), is_open=True),
    Operation(
        "post", "/v1/images/edits", "Draw from a picture, as OpenAI's clients ask for it", {200: None},
        section="OpenAI", form=EditForm, headers=("Idempotency-Key",),
        errors=(400, 404, 409, 410, 413, 415, 429, 504), error=OpenAIError,
        details="The transparent area of `mask` is drawn anew. All fields of a generation are taken, as text.",
    ),
    Operation(
        "post", "/v1/images/variations", "Draw a picture like another one", {200: None}, section="OpenAI",
        form=VariationForm, headers=("Idempotency-Key",), errors=(400, 404, 409, 410, 413, 415, 429, 504),
        error=OpenAIError,
    ),
    Operation(
        "post", "/v1/images/generations", "Draw, as OpenAI's clients ask for it", {200: None}, section="OpenAI",
        body=ImageRequest, headers=("Idempotency-Key",), errors=(400, 404, 409, 410, 413, 429, 504),
        error=OpenAIError, example={"prompt": "a red circle on a blue background"},
        details="Waits until the picture is done; `stream` tells how it goes.",
    ),
    Operation("get", "/v1/models", "The models that are served", {200: None}, section="Models",
              errors=(422,)),
    Operation("get", "/v1/models/{alias}", "A model by its alias", {200: None}, section="Models", errors=(404,),
        error=OpenAIError,
    ),
    Operation("get", "/v1/models/{owner}/{name}", "A model", {200: None}, section="Models", errors=(404,)),
    Operation("get", "/v1/models/{owner}/{name}/versions", "Its versions", {200: None}, section="Models",
              errors=(404, 422)),
    Operation("get", "/v1/models/{owner}/{name}/versions/{version}", "A version and its inputs", {200: None},
              section="Models", errors=(404,)),
    Operation("post", "/v1/models/{owner}/{name}/warm", "Have a worker ready before the first request", {202: KeptWarm},
              section="Models", body=WarmRequest, needs_body=False, errors=(400, 404, 413, 422),
              example={"seconds": 300}),
    Operation("get", "/v1/deployments", "The deployments", {200: DeploymentPage}, section="Deployments", errors=(422,)),
    Operation("post", "/v1/deployments", "Keep workers of a model ready under a name", {200: Deployment},
              section="Deployments", body=DeploymentRequest, errors=(400, 413, 422),
              example={"name": "pictures", "hardware": "gpu", "min_instances": 1, "max_instances": 2},
              details="It needs the scope `admin`."),
    Operation("get", "/v1/deployments/{owner}/{deployment}", "A deployment", {200: Deployment}, section="Deployments",
              errors=(404,)),
    Operation("patch", "/v1/deployments/{owner}/{deployment}", "Change a deployment", {200: Deployment},
              section="Deployments", body=DeploymentChange, errors=(400, 404, 413, 422), example={"min_instances": 0},
              details="It needs the scope `admin`."),
    Operation("delete", "/v1/deployments/{owner}/{deployment}", "Delete a deployment", {204: None},
              section="Deployments", errors=(404,), details="It needs the scope `admin`."),
    Operation(
        "post", "/v1/deployments/{owner}/{deployment}/predictions", "Draw with the model of a deployment",
        {201: Prediction}, section="Deployments", body=PredictionRequest, headers=SUBMIT_HEADERS,
        errors=(*_SUBMIT_ERRORS, 404), example={"input": {"prompt": "a red circle on a blue background"}},
    ),
    Operation("get", "/v1/webhooks/default/secret", "The secret that signs webhooks", {200: None}, section="Account"),
    Operation("get", "/v1/webhooks/deployment/secret", "The secret of the deployment", {200: None}, section="Account",
              details="It signs the webhooks of predictions that belong to no token. It needs the scope `admin`."),
    Operation("get", "/v1/webhook_deliveries", "Deliveries, newest first", {200: None}, section="Webhooks",
              query=("cursor", "status", "prediction_id"), errors=(422,)),
    Operation("get", "/v1/webhook_deliveries/{delivery_id}", "A delivery", {200: None}, section="Webhooks",
              errors=(404,)),
    Operation("post", "/v1/webhook_deliveries/{delivery_id}/replay", "Send it again", {200: None}, section="Webhooks",
              errors=(404, 409), details="With the same webhook-id and the same body."),
    Operation("get", "/v1/usage", "Pictures, steps and GPU seconds by day, token or model", {200: Usage},
              section="Account", query=("from", "to", "by", "format"), errors=(422,),
              details="Its own for a token, of all tokens for one with the scope `admin`. Also as CSV."),
    Operation("get", "/v1/account", "Who this is", {200: None}, section="Account"),
    Operation("get", "/healthz", "Whether the process lives", {200: None}, section="Operation", is_open=True),
    Operation("get", "/readyz", "Whether a request would be accepted", {200: None, 503: None}, section="Operation",
              is_open=True),
    Operation("get", "/v1/status", "The state of the deployment", {200: None}, section="Operation", errors=(422,),
              details="Queues, workers, durations, failures, webhooks, usage. It needs the scope `admin`."),
    Operation("get", "/metrics", "For Prometheus", {200: None}, section="Operation", media="text/plain"),
)  # fmt: skip
