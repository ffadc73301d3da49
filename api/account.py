"""Whose service this is, for clients that ask."""

from __future__ import annotations

from flask import Blueprint, Response

from api.auth import needs
from api.services import services
from storage.access.scopes import Scope
from storage.predictions.render import dump

blueprint = Blueprint("account", __name__)


@blueprint.get("/account")
@needs(Scope.READ)
def get() -> Response:
    """Replicate's account object; one deployment is one account."""
    account = {
        "type": "organization",
        "username": "darkroom",
        "name": "Darkroom",
        "github_url": None,
        "avatar_url": None,
        "url": services().settings.public_url,
    }
    return Response(dump(account), content_type="application/json")
