"""Replicate's account route: one deployment is one account."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api.auth import needs
from api.docs.operation import documented
from api.services import services
from storage.access.scopes import Scope
from storage.predictions.render import dump

blueprint = Blueprint("account", __name__)

USERNAME = "darkroom"  # the owner of the deployments


@blueprint.get("/account")
@documented("Who this is", {200: None}, section="Account")
@needs(Scope.READ)
def get() -> Response:
    return Response(dump(account()), content_type="application/json")


def account() -> dict[str, Any]:
    """Replicate's account object."""
    return {
        "type": "organization",
        "username": USERNAME,
        "name": "Darkroom",
        "github_url": None,
        "avatar_url": None,
        "url": services().settings.public_url,
    }
