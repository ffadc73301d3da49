"""Alembic revisions, run by `storage.postgres.migrate`."""
