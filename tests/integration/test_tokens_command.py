"""`darkroom tokens`: the limits that a token is made with are the ones that are listed."""

from __future__ import annotations

from click.testing import CliRunner, Result

from cli.group import darkroom
from storage.access.tokens import find_token
from storage.postgres.database import Connection
from storage.settings import Settings
from tests.support.making import count, submit_one


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


def test_scopes_are_given_listed_and_changed(settings: Settings, conn: Connection) -> None:
    run(settings, "create", "usual")
    run(settings, "create", "prometheus", "--scopes", "metrics")
    broad = run(settings, "create", "broad", "--scopes", "metrics, read,draw").stdout.strip()
    listed = run(settings, "list")
    scopes = [line.split()[2] for line in listed.stdout.splitlines()]
    assert scopes == ["SCOPES", "draw,read", "metrics", "draw,read,metrics"]
    assert "darkroom tokens set-scopes broad draw,read" in listed.stderr
    assert "before: draw,read,metrics" in run(settings, "set-scopes", "broad", "read").stdout
    found = find_token(conn, broad)
    assert found is not None
    assert found.scopes == {"read"}
    assert "set-scopes" not in run(settings, "list").stderr


def test_unknown_scopes_and_tokens_are_refused_with_what_there_is(settings: Settings) -> None:
    def refused(*arguments: str) -> str:
        result = CliRunner().invoke(darkroom, ["tokens", *arguments], env={"DATABASE_URL": settings.database_url})
        assert result.exit_code != 0
        return result.output

    assert "no scope 'write': choose from draw,read,metrics,admin" in refused("create", "x", "--scopes", "draw,write")
    assert "at least one scope" in refused("create", "x", "--scopes", " , ")
    assert "no token 'nobody'" in refused("set-scopes", "nobody", "read")
    assert "no token 'nobody'" in refused("adopt", "nobody")


def test_adopt_says_how_many_predictions_the_token_has_got(settings: Settings, conn: Connection) -> None:
    submit_one(conn)
    run(settings, "create", "app")
    assert "app has got 1 predictions" in run(settings, "adopt", "app").stdout
    assert count(conn, "predictions", "token_id IS NULL") == 0
