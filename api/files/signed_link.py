"""The signature in a link, which replaces a token."""

from __future__ import annotations

from flask import request

from api.errors import Problem
from api.services import services


def require_signed_link(of_id: str, name: str, *, what: str = "prediction") -> None:
    """Check the signature of the request's URL, for `name` of that prediction or file. Raises Problem (403)."""
    expires, signature = request.args.get("expires", ""), request.args.get("signature", "")
    here = services()
    if not here.renderer.links.verify(f"{of_id}/{name}", expires, signature, now=here.clock.now()):
        raise Problem(
            403,
            "Forbidden",
            f"the link's signature is invalid, or the link has expired: GET the {what} for a new one",
        )
