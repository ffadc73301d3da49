"""The devices that workers draw on."""

from __future__ import annotations

from storage.postgres.database import Connection


def list_devices(conn: Connection) -> list[str]:
    """Their names, sorted: of the workers that run now, and of those that have loaded a model at any time.

    The blank engine uses no device, so it is left out.
    """
    rows = conn.execute(
        """
        SELECT device FROM workers WHERE device IS NOT NULL AND device NOT LIKE 'none (%'
        UNION
        SELECT device FROM load_times WHERE device NOT LIKE 'none (%'
        """
    )
    return sorted(row["device"] for row in rows)
