"""The database role of the API, the workers and the courier: it reads and writes rows, and changes no schema.

docs/deploy.md has the same grants for a Postgres of the operator's own; a test compares them.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

ROLE = "darkroom_app"
GRANTS = """
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {role};
"""


def ensure_app_role(superuser_url: str, password: str) -> None:
    """Create the role or correct it, and grant it what it needs. The tables have to be there.

    Run at each start: an earlier release's data has no such role, and a migration may have added tables.
    """
    with psycopg.connect(superuser_url) as conn:
        # Hashed here, so that the password can't stand in a log of the server.
        verifier = conn.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()
        role = sql.Identifier(ROLE)
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
            conn.execute(sql.SQL("CREATE ROLE {}").format(role))
        conn.execute(
            sql.SQL(
                "ALTER ROLE {} LOGIN PASSWORD {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            ).format(role, sql.Literal(verifier))
        )
        database = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL(GRANTS).format(database=database, role=role))
