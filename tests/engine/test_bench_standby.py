"""`python -m bench.gpu.standby` runs to its end with the pocket model, so that it will on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.gpu import standby
from bench.gpu.subject import POCKET


@pytest.mark.timeout(300)
def test_two_models_that_stand_by_are_measured_through_the_api(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["--folder", str(POCKET), "--side", "64", "--dtype", "float32", "--json", str(figures)]
    more = ["--standby-after-s", "0.3", "--repeats", "1", "--races", "2", "--budget-s", "250"]
    standby.main([*words, *more, "--log", str(tmp_path / "service.log")])
    section = json.loads(figures.read_text())["sections"]["standby"]
    measured = [row[0] for row in section["rows"]]
    assert [what for what in measured if "median" in what] == [
        "woken, median of 2",
        "switched, median of 2",
        "awake, median of 2",
        "2 requests around the moment of going to standby, median",
    ]
    # Two from zero, two woken, three switched to, two awake, two races; and nothing was loaded again.
    assert "11 predictions were drawn; workers loaded a model 2 times (2 are needed)." in section["notes"]
    assert "device memory while both stand by" in capsys.readouterr().out
