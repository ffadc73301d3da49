"""Postgres itself: connections, tables, migrations, NOTIFY and LISTEN, and Procrastinate."""
