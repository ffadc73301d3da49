"""Replicate's deployments: a name for a model, with the number of its workers at least and at most."""

from __future__ import annotations

from dataclasses import dataclass

from storage.postgres.database import Connection, Row
from storage.workers.warm import notify_bounds_changed

FIND = "SELECT * FROM deployments WHERE name = %s"
FIND_TO_CHANGE = "SELECT * FROM deployments WHERE name = %s FOR UPDATE"


@dataclass(frozen=True)
class Release:
    """What a deployment is set to."""

    model: str
    version: str
    hardware: str
    min_instances: int
    max_instances: int


def create_deployment(conn: Connection, name: str, release: Release) -> Row | None:
    """The new row; None if the name is taken."""
    with conn.transaction():
        row = conn.execute(
            """
            INSERT INTO deployments (name, model, version, hardware, min_instances, max_instances)
            VALUES (%(name)s, %(model)s, %(version)s, %(hardware)s, %(min_instances)s, %(max_instances)s)
            ON CONFLICT DO NOTHING RETURNING *
            """,
            vars(release) | {"name": name},
        ).fetchone()
        notify_bounds_changed(conn, release.model)
    return row


def find_deployment(conn: Connection, name: str, *, to_change: bool = False) -> Row | None:
    """`to_change` locks the row until the end of the caller's transaction."""
    return conn.execute(FIND_TO_CHANGE if to_change else FIND, (name,)).fetchone()


def list_deployments(conn: Connection) -> list[Row]:
    """The latest one first."""
    return conn.execute("SELECT * FROM deployments ORDER BY created_at DESC, name").fetchall()


def change_deployment(conn: Connection, name: str, release: Release) -> Row:
    """Make a new release of a deployment, which the caller has locked."""
    row = conn.execute(
        """
        UPDATE deployments
        SET version = %(version)s, hardware = %(hardware)s, min_instances = %(min_instances)s,
            max_instances = %(max_instances)s, release = release + 1, released_at = clock_timestamp()
        WHERE name = %(name)s RETURNING *
        """,
        vars(release) | {"name": name},
    ).fetchone()
    assert row is not None
    notify_bounds_changed(conn, release.model)
    return row


def delete_deployment(conn: Connection, name: str) -> bool:
    """Whether there was one."""
    with conn.transaction():
        row = conn.execute("DELETE FROM deployments WHERE name = %s RETURNING model", (name,)).fetchone()
        if row is not None:
            notify_bounds_changed(conn, row["model"])
    return row is not None
