"""Settings that don't go together: one line that says what to do, and holds no secret."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.group import darkroom

PASSWORD = "do-not-show-me"
DATABASE_URL = f"postgresql://darkroom:{PASSWORD}@nowhere/darkroom"


@pytest.mark.parametrize("role", ["prepare", "api", "worker", "courier"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"), ("S3_SECRET_ACCESS_KEY", "S3_ACCESS_KEY_ID")],
)
def test_half_an_s3_key_is_refused_by_every_role(role: str, given: str, missing: str) -> None:
    env = {"DATABASE_URL": DATABASE_URL, given: PASSWORD, missing: ""}
    result = CliRunner().invoke(darkroom, [role], env=env)
    assert result.exit_code == 2
    assert f"{missing} is not set, but the other half of the S3 key is: set both, or neither" in result.output
    assert PASSWORD not in result.output


def test_settings_that_exclude_each_other_are_named_without_all_the_others() -> None:
    result = CliRunner().invoke(darkroom, ["api"], env={"DATABASE_URL": DATABASE_URL, "API_THREADS": "4"})
    assert result.exit_code == 2
    assert "API_MAX_WAITING + API_MAX_STREAMS must be below API_THREADS" in result.output
    assert PASSWORD not in result.output


def test_a_setting_with_a_few_values_names_them() -> None:
    result = CliRunner().invoke(darkroom, ["api"], env={"DATABASE_URL": DATABASE_URL, "AUTH": "nope"})
    assert result.exit_code == 2
    assert "AUTH: must be one of auto, tokens, none (it is 'nope')" in result.output
