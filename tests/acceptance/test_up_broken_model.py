"""`darkroom up` with a model whose weights are not there: it says so, and what asks for that model fails."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.running_up import CATALOG, up

BROKEN = """
[models."test/broken"]
source = "/nowhere/secret/weights"
defaults = { width = 64, height = 64 }
"""


def test_it_is_named_at_the_start_and_its_predictions_fail_after_three_workers(folder: Path) -> None:
    (folder / "models.toml").write_text(CATALOG + BROKEN)
    with up(folder, "--workers", "1", "--idle-exit", "1") as running:
        assert "test/broken can't be drawn: there is no folder /nowhere/secret/weights" in running.output
        broken, good = running.submit("test/broken"), running.submit()
        assert running.wait_for_status(good, "succeeded", timeout_s=120) == "succeeded"
        assert running.wait_for_status(broken, "failed", timeout_s=180) == "failed"
        _, prediction = running.request("GET", f"/v1/predictions/{broken}")
        assert prediction["error"].startswith("The model could not be loaded (failed tries: 3).")
        assert "secret" not in prediction["error"]
        assert running.interrupt() == 0
