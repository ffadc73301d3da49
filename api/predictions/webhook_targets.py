"""Whether a webhook may be sent where a request wants it."""

from __future__ import annotations

from api.errors import InvalidInput
from storage.outbound.check_url import AllowList, check_url
from storage.outbound.dns_lookup import ForbiddenAddress, Unresolvable
from storage.outbound.parse_url import InvalidURL


def require_allowed(url: str, allow: AllowList, *, token_id: int | None) -> None:
    """Raise InvalidInput for a URL that is none, for a name that doesn't exist, and for a private address that is not
    allowed.

    If the name server doesn't answer now, the URL is accepted: the courier resolves and checks it again.
    """
    try:
        check_url(url, allow, owner=token_id)
    except (ForbiddenAddress, InvalidURL) as error:
        raise InvalidInput("webhook", str(error)) from None
    except Unresolvable:
        return
