"""The breakages: what each one undoes, its edits of the text, and the tests that must fail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One replacement; `old` stands in the file exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Breakage:
    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


NO_FENCE = Breakage(
    "drop the fence in finish",
    (
        Edit(
            "storage/predictions/finish.py",
            "(status = 'processing' AND claim_id = %(claim_id)s\n",
            "(status IN ('starting', 'processing')\n",
        ),
    ),
    ("tests/integration/test_life_cycle.py", "tests/integration/test_state_machine.py"),
)

NO_RENEWAL_IN_DRAIN = Breakage(
    "skip lease renewal in drain",
    (
        Edit(
            "worker/process.py",
            "        before = self.lifecycle.stop()\n",
            "        before = self.lifecycle.stop()\n        self._leases._stopping.set()\n",
        ),
    ),
    ("tests/integration/test_worker_dies.py::test_a_worker_that_drains_keeps_its_claim_until_the_drawing_is_done",),
)

COMMIT_BEFORE_UPLOAD = Breakage(
    "commit before upload",
    (
        Edit(
            "worker/publish/publish.py",
            'T = TypeVar("T")\n',
            'T = TypeVar("T")\nLATER: list[Callable[[], None]] = []\n',
        ),
        Edit(
            "worker/publish/publish.py",
            '        with attempt.spans.phase("upload"):\n            _retry(attempt, partial(self.bucket.put,',
            '        with attempt.spans.phase("upload"):\n            LATER.append(partial(self.bucket.put,',
        ),
        Edit(
            "worker/publish/publish.py",
            "        if row is None:\n            raise ClaimLost(attempt.id)\n",
            "        if row is None:\n            raise ClaimLost(attempt.id)\n"
            "        while LATER:\n            LATER.pop()()\n",
        ),
    ),
    ("tests/integration/test_worker_dies.py::test_wherever_a_worker_dies_one_result_is_published_and_no_byte_is_left",),
)

BELL_OUTSIDE = Breakage(
    "ring the bell outside the transaction",
    (
        Edit(
            "migrations/versions/0027_short_submit_and_claim.py",
            "    IF NOT drawn_before THEN\n",
            "    IF FALSE THEN\n",
        ),
        Edit(
            "storage/predictions/submit.py",
            "    return None if found is None else _row_of(submission) | found\n",
            """\
    if found is not None and not found["drawn_before"]:
        ring(conn, submission.id)
    return None if found is None else _row_of(submission) | found
""",
        ),
    ),
    ("tests/integration/test_submit_whole.py",),
)

ONE_STATEMENT = Breakage(
    "claim in one statement",
    (
        Edit(
            "migrations/versions/0027_short_submit_and_claim.py",
            "    prediction predictions, outcome text, may_be_drawn_before boolean\n"
            ") LANGUAGE plpgsql VOLATILE {PLANNED} AS $$\n",
            "    prediction predictions, outcome text, may_be_drawn_before boolean\n"
            ") LANGUAGE sql VOLATILE AS $$\n"
            "WITH job AS (\n"
            "    SELECT id, args FROM procrastinate_fetch_job_v2(ARRAY[queue_name]::varchar[], bell_worker_id))\n"
            "UPDATE predictions AS p\n"
            "SET status = 'processing', attempt = p.attempt + 1, claim_id = darkroom_claim_v1.claim_id,\n"
            "    worker_id = darkroom_claim_v1.worker_id, started_at = clock_timestamp(),\n"
            "    lease_expires_at = clock_timestamp() + lease\n"
            "FROM job WHERE p.id = job.args->>'prediction_id' AND p.status = 'starting'\n"
            "  AND p.queue_job_id = job.id AND p.deadline_at > clock_timestamp()\n"
            "RETURNING p, 'claimed', true\n"
            "$$;\n"
            "CREATE FUNCTION darkroom_claim_as_it_was()\n"
            "RETURNS TABLE (prediction predictions, outcome text, may_be_drawn_before boolean)\n"
            "LANGUAGE plpgsql AS $$\n",
        ),
    ),
    ("tests/integration/test_claim_race.py",),
)

SHARED_KEY = Breakage(
    "reuse the S3 key across claims",
    (
        Edit(
            "storage/predictions/object_keys.py",
            '{prediction_id}/{attempt}-{claim_id}/{index}.{extension}"\n',
            '{prediction_id}/1-00000000-0000-0000-0000-000000000000/{index}.{extension}"\n',
        ),
    ),
    ("tests/integration/test_worker_dies.py::test_wherever_a_worker_dies_one_result_is_published_and_no_byte_is_left",),
)

BREAKAGES = (NO_FENCE, NO_RENEWAL_IN_DRAIN, COMMIT_BEFORE_UPLOAD, BELL_OUTSIDE, ONE_STATEMENT, SHARED_KEY)
