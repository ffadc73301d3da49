"""`python -m bench.gpu` runs to its end at pocket size, so that it will on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.gpu.__main__ import main
from bench.gpu.company import psnr


def test_every_section_but_the_long_ones_runs_and_gives_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    words = ["--model", "pocket", "--device", "cpu", "--json", str(figures), "--write", str(page), "--ways", "plain"]
    main([*words, "--only", "ceilings,steps,company,parts,edits,loras,variants,loading"])
    found = json.loads(figures.read_text())
    assert found["left_out"] == []
    assert found["device"] == "cpu"
    assert list(found["sections"]) == ["ceilings", "steps", "company", "parts", "edits", "loras", "variants", "loading"]
    # What is claimed of this model in docs/engine.md, in the same words: company changes nothing that can be seen.
    assert min(value for name, value in found["sections"]["company"]["figures"].items()) > 100
    assert min(value for name, value in found["sections"]["edits"]["figures"].items() if name.endswith("psnr")) > 100
    assert len(found["sections"]["steps"]["rows"]) == 8
    assert page.read_text() in capsys.readouterr().out

    main(["--from", str(figures), str(figures)])
    assert capsys.readouterr().out.count("| plain |") == 2


def test_psnr_is_measured_against_the_range_of_the_reference() -> None:
    reference = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert psnr(reference, reference + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(reference, reference) == float("inf")
