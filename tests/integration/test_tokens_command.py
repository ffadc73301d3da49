"""`darkroom tokens`: the limits that a token is made with are the ones that are listed."""

from __future__ import annotations

from click.testing import CliRunner, Result

from cli.group import darkroom
from storage.access.tokens import find_token
from storage.postgres.database import Connection
from storage.settings import Settings


def run(settings: Settings, *arguments: str) -> Result:
    result = CliRunner().invoke(darkroom, ["tokens", *arguments], env={"DATABASE_URL": settings.database_url})
    assert result.exit_code == 0, result.output
    return result


def test_limits_are_kept_and_listed(settings: Settings, conn: Connection) -> None:
    few = run(settings, "create", "few", "--max-images", "2").stdout.strip()
    free = run(settings, "create", "free", "--max-images", "0").stdout.strip()
    ordinary = run(settings, "create", "ordinary").stdout.strip()
    found = [find_token(conn, token) for token in (few, free, ordinary)]
    assert [token and token.max_images for token in found] == [2, 0, None]

    head, *lines = run(settings, "list").stdout.splitlines()
    column = head.index("IMAGES")
    assert [line[column:].split()[0] for line in lines] == ["2", "any", "setting"]
