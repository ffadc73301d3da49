"""How long the page takes until one can draw, in Chromium with the processor slowed down, and how much it loads.

    python -m bench.page [--rounds 5] [--slower 4] [--running 100] [--pictures 500]

Once with nothing to show, and once with a full gallery and predictions that wait. Chromium and the service share this
machine's cores.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, expect, sync_playwright

from bench.command import CommandLine, leave_out, own_servers
from bench.report import machine
from storage.postgres.database import connect
from tests.support.serving import Service, serving

FILL = """
INSERT INTO predictions
       (id, status, model, version, queue_name, input, parameters, created_at, completed_at, deadline_at)
SELECT lpad(n::text, 26, '0'), CASE WHEN n <= %s THEN 'starting' ELSE 'canceled' END, 'darkroom/nobody', '1', 'q',
       jsonb_build_object('prompt', 'number ' || n), '{"num_inference_steps": 4}', now() - n * interval '1 second',
       CASE WHEN n > %s THEN now() END, now() + interval '1 hour'
FROM generate_series(1, %s) AS n
"""


def main() -> None:
    parser = CommandLine(__doc__)
    parser.size("--rounds", 5, quick=1)
    parser.size("--slower", 4.0, quick=1.0, explanation="times the processor is slowed down")
    parser.size("--running", 100, quick=3)
    parser.size("--pictures", 500, quick=10)
    options = parser.read()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        leave_out("bench.page measures in Chromium, and there is none here.")
    print(machine())
    with (
        own_servers() as services,
        TemporaryDirectory() as folder,
        serving(services, Path(folder), workers=False) as service,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        _report("empty", browser, service, options.rounds, options.slower)
        with connect(service.settings.database_url, application_name="bench") as conn:
            conn.execute(FILL, (options.running, options.running, options.pictures))
        _report(f"{options.pictures} predictions", browser, service, options.rounds, options.slower)
        browser.close()


def _report(name: str, browser: Browser, service: Service, rounds: int, slower: float) -> None:
    taken, sizes = [], []
    for _ in range(rounds):
        context = browser.new_context()
        page = context.new_page()
        context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
        page.goto(service.url, wait_until="commit")
        expect(page.locator("#submit")).to_be_enabled(timeout=60_000)
        taken.append(page.evaluate("performance.now()"))
        sizes.append(
            page.evaluate("performance.getEntriesByType('resource').reduce((all, each) => all + each.transferSize, 0)")
        )
        context.close()
    print(
        f"  {name}: one can draw after {median(taken):.0f} ms ({min(taken):.0f} to {max(taken):.0f}), "
        f"{median(sizes) / 1000:.0f} kB loaded"
    )


if __name__ == "__main__":
    main()
