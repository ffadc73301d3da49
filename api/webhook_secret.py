"""The secret with which receivers verify webhooks."""

from __future__ import annotations

from flask import Blueprint, Response

from api.auth import caller, needs
from api.docs.operation import documented
from api.services import services
from storage.access.scopes import Scope
from storage.access.sealing import open_sealer
from storage.access.signing_keys import active_webhook_secrets
from storage.predictions.render import dump

blueprint = Blueprint("webhook_secret", __name__)


@blueprint.get("/webhooks/default/secret")
@documented("The secret that signs webhooks", {200: None}, section="Account")
@needs(Scope.READ)
def get() -> Response:
    """The caller's newest secret. During a rotation, webhooks are signed with the older one too."""
    with services().pool.connection() as conn:
        newest = active_webhook_secrets(conn, open_sealer(services().settings), caller().token_id)[0]
    return _answer(newest)


@blueprint.get("/webhooks/deployment/secret")
@documented(
    "The secret of the deployment",
    {200: None},
    section="Account",
    details="It signs the webhooks of predictions that belong to no token. It needs the scope `admin`.",
)
@needs(Scope.ADMIN)
def get_deployments() -> Response:
    """The secret that signs the webhooks of predictions that belong to no token."""
    with services().pool.connection() as conn:
        return _answer(active_webhook_secrets(conn, open_sealer(services().settings))[0])


def _answer(newest: str) -> Response:
    return Response(dump({"key": newest}), content_type="application/json", headers={"Cache-Control": "no-store"})
