"""When `darkroom up` takes a worker that runs for frozen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from cli.host.frozen_workers import SILENT_LOOKS, SILENT_S, Silence
from storage.postgres.connecting import CONNECT_TIMEOUT_S, KEEPALIVES
from storage.predictions.claim import LEASE
from storage.workers.registry import Sign, WorkerState

OURS = uuid4()


def sign(at: int, state: WorkerState = "idle", worker_id: UUID = OURS) -> Sign:
    return Sign(worker_id, state, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at))


def test_a_ready_worker_that_says_nothing_new_for_so_many_looks_is_silent_for_too_long() -> None:
    silence = Silence(None)
    looks = [silence.is_too_long(sign(at)) for at in (1, 2, *[3] * SILENT_LOOKS, 3)]
    assert looks == [False] * (2 + SILENT_LOOKS) + [True]


def test_one_sign_of_life_is_enough_to_begin_anew() -> None:
    silence = Silence(None)
    for at in (1, 2, 3):
        assert not any(silence.is_too_long(sign(at)) for _ in range(SILENT_LOOKS))


def test_a_worker_that_loads_or_has_not_been_heard_yet_is_never_taken_for_silent() -> None:
    loading, unheard = Silence(None), Silence(None)
    assert not any(loading.is_too_long(sign(1, "loading")) or unheard.is_too_long(None) for _ in range(100))


def test_a_row_that_was_there_before_the_process_says_nothing_about_it() -> None:
    earlier = sign(1, worker_id=uuid4())
    silence = Silence(earlier)
    assert not any(silence.is_too_long(earlier) for _ in range(100))
    assert [silence.is_too_long(sign(2)) for _ in range(SILENT_LOOKS + 1)][-1], "once it was heard itself, it counts"


def test_a_row_that_rescue_has_removed_is_silence_too() -> None:
    silence = Silence(None)
    assert not silence.is_too_long(sign(1))
    assert [silence.is_too_long(None) for _ in range(SILENT_LOOKS)][-1]


def test_nobody_is_silent_before_its_lease_is_over_and_a_cut_network_could_be_noticed() -> None:
    assert LEASE.total_seconds() < SILENT_S
    assert KEEPALIVES["tcp_user_timeout"] / 1000 + CONNECT_TIMEOUT_S < SILENT_S
