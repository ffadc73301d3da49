"""Whether a webhook may be sent where a request wants it."""

from __future__ import annotations

from api.errors import InvalidInput
from storage.webhooks.addresses import AllowList, check_url
from storage.webhooks.lookup import ForbiddenAddress, Unresolvable
from storage.webhooks.url import InvalidURL


def require_allowed(url: str, allow: AllowList, *, token_id: int | None) -> None:
    """Raise InvalidInput for a URL that is none, or leads to a private address that is not allowed.

    A name that does not resolve now may do so later, so it is taken; the courier resolves and judges it again.
    """
    try:
        check_url(url, allow, asked_by=token_id)
    except (ForbiddenAddress, InvalidURL) as error:
        raise InvalidInput("webhook", str(error)) from None
    except Unresolvable:
        return
