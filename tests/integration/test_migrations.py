"""The schema: up, down, over an existing one, by several at once, and the same as the code's tables."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

import migrations
from storage.errors import OperatorError, SchemaMismatch
from storage.postgres import migrate, schema_revision
from storage.postgres.database import connect
from storage.settings import Settings
from tests.conftest import RunningServices
from tests.support.making import count


@pytest.fixture
def empty(services: RunningServices, empty_database: str) -> Settings:
    return services.settings_for(empty_database)


def test_the_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(schema_revision.known_revisions()))
    assert schema_revision.head() == scripts.get_current_head()


def test_an_older_schema_is_refused_with_what_to_do(settings: Settings) -> None:
    with connect(settings.database_url, application_name="test") as conn:
        conn.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(SchemaMismatch, match=f"at revision 0001, this release needs {schema_revision.head()}"):
        schema_revision.check(settings)


def test_autogenerate_finds_no_difference(settings: Settings) -> None:
    assert migrate.differences(settings) == []


def test_autogenerate_would_find_one(settings: Settings) -> None:
    with connect(settings.database_url, application_name="test") as conn:
        conn.execute("ALTER TABLE predictions DROP COLUMN error")
    assert migrate.differences(settings)


def test_upgrade_and_downgrade_leave_nothing_behind(empty: Settings) -> None:
    migrate.upgrade(empty)
    schema_revision.check(empty)
    migrate.downgrade(empty, "base")
    with connect(empty.database_url, application_name="test") as conn:
        left = "relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'"
        assert count(conn, "pg_class", left) == 0
        assert count(conn, "pg_type", "typname LIKE 'procrastinate%'") == 0
        assert count(conn, "pg_proc", "proname LIKE 'procrastinate%'") == 0
    migrate.upgrade(empty)
    schema_revision.check(empty)


def test_upgrading_twice_changes_nothing(settings: Settings) -> None:
    with connect(settings.database_url, application_name="test") as conn:
        conn.execute("INSERT INTO signing_keys (purpose, secret) VALUES ('webhook', 'x')")
        migrate.upgrade(settings)
        assert count(conn, "signing_keys") == 1


def test_several_processes_may_migrate_at_once(empty: Settings) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate.upgrade(empty)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    schema_revision.check(empty)


def test_check_says_that_an_empty_database_needs_migrating(empty: Settings) -> None:
    with pytest.raises(SchemaMismatch, match="run `darkroom migrate`"):
        schema_revision.check(empty)


def test_a_newer_schema_is_refused_unless_it_says_that_this_release_may_run(settings: Settings) -> None:
    head = schema_revision.head()
    with connect(settings.database_url, application_name="test") as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
        schema_revision.check(settings)  # 9999 only expanded: it left our revision among the compatible ones
        conn.execute("DELETE FROM darkroom_compatible_with WHERE revision = %s", (head,))
        with pytest.raises(SchemaMismatch, match="newer Darkroom"):
            schema_revision.check(settings)
        with pytest.raises(SchemaMismatch, match="newer Darkroom"):
            migrate.upgrade(settings)


def test_every_migration_says_that_it_is_compatible_with_itself(settings: Settings) -> None:
    with connect(settings.database_url, application_name="test") as conn:
        head = schema_revision.head()
        assert count(conn, "darkroom_compatible_with", f"revision = '{head}'") == 1


def test_a_database_with_somebody_elses_procrastinate_is_refused(empty: Settings) -> None:
    with connect(empty.database_url, application_name="test") as conn:
        conn.execute("CREATE TABLE procrastinate_jobs (id int)")
    with pytest.raises(OperatorError, match="of its own"):
        migrate.upgrade(empty)


def test_an_unreachable_database_is_one_clear_line(empty: Settings, tmp_path: Path) -> None:
    nowhere = empty.model_copy(update={"database_url": f"postgresql://postgres@/postgres?host={tmp_path}"})
    with pytest.raises(OperatorError, match="can't be reached") as caught:
        migrate.upgrade(nowhere)
    assert "\n" not in str(caught.value)
