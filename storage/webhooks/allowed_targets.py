"""Where webhooks may go: what the settings allow, and never to this service's own servers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from storage.outbound.check_url import AllowList
from storage.outbound.denied_servers import DeniedServers
from storage.settings import Settings


@dataclass(frozen=True)
class AllowedTargets:
    """Two allow-lists: one of them holds only as long as the API needs no token."""

    always: AllowList
    while_open: AllowList

    @classmethod
    def of(cls, settings: Settings) -> AllowedTargets:
        """Raises ValueError, naming the item, for settings that can't be read."""
        own = DeniedServers.from_settings(settings)
        both = f"{settings.webhook_allow},{settings.webhook_allow_while_open}"
        return cls(
            always=replace(AllowList.parse(settings.webhook_allow), denied=own),
            while_open=replace(AllowList.parse(both), denied=own),
        )

    @property
    def depend_on_tokens(self) -> bool:
        """Whether the two differ, so that somebody has to ask whether a token was made."""
        return self.always != self.while_open

    def now(self, *, is_open: bool) -> AllowList:
        """`is_open`: the API needs no token, since none was ever made."""
        return self.while_open if is_open else self.always
