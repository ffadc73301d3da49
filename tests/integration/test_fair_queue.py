"""Tokens take turns in the queue, whatever each of them has submitted."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.postgres.database import Connection
from storage.predictions.claim import hand_back
from storage.predictions.finish import Canceled, ReusedImage, Succeeded, finish
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer
from storage.workers.queue_state import read_queue_state
from tests.support.making import MODEL, claim_one, count, submit_one, succeeded

A, B, C = 1, 2, 3
SEEDED = Parameters(prompt="a", width=64, height=64, num_inference_steps=2, guidance_scale=0.0, seed=7).to_json()


def claimed_tokens(conn: Connection, renderer: Renderer) -> list[int]:
    """Claim everything that waits; whose each was, in order."""
    tokens = []
    while (claim := claim_one(conn, renderer)) is not None:
        tokens.append(claim.prediction["token_id"])
    return tokens


def test_one_prediction_of_a_token_is_next_whatever_the_backlog_of_another(
    conn: Connection, renderer: Renderer
) -> None:
    for _ in range(200):
        submit_one(conn, token_id=A)
    submit_one(conn, token_id=B)
    assert claimed_tokens(conn, renderer)[:3] == [A, B, A]


def test_two_backlogs_are_drawn_in_turn_and_each_in_its_own_order(conn: Connection, renderer: Renderer) -> None:
    own = {token: [submit_one(conn, token_id=token)["id"] for _ in range(4)] for token in (A, B)}
    drawn: dict[int, list[str]] = {A: [], B: []}
    order = []
    while (claim := claim_one(conn, renderer)) is not None:
        drawn[claim.prediction["token_id"]].append(claim.prediction_id)
        order.append(claim.prediction["token_id"])
    assert order == [A, B, A, B, A, B, A, B]
    assert drawn == own


def test_a_long_backlog_is_not_starved_by_tokens_that_always_come_back(conn: Connection, renderer: Renderer) -> None:
    """It would be, if only tags that wait counted."""
    for _ in range(3):
        submit_one(conn, token_id=A)
    drawn = []
    for _ in range(9):
        for token in (B, C):
            if count(conn, "predictions", f"token_id = {token} AND status = 'starting'") == 0:
                submit_one(conn, token_id=token)
        claim = claim_one(conn, renderer)
        assert claim is not None
        drawn.append(claim.prediction["token_id"])
    assert drawn.count(A) == 3


def test_what_was_drawn_before_a_quiet_time_does_not_count(conn: Connection, renderer: Renderer) -> None:
    for _ in range(50):
        submit_one(conn, token_id=A)
    claimed_tokens(conn, renderer)
    for token in (B, B, A):
        submit_one(conn, token_id=token)
    assert claimed_tokens(conn, renderer) == [B, A, B]


def test_what_was_canceled_before_it_was_drawn_does_not_count(conn: Connection, renderer: Renderer) -> None:
    canceled = [submit_one(conn, token_id=A)["id"] for _ in range(10)]
    for _ in range(4):
        submit_one(conn, token_id=B)
    for id_ in canceled:
        finish(conn, renderer, id_, Canceled())
    submit_one(conn, token_id=A)
    assert claimed_tokens(conn, renderer) == [B, A, B, B, B]


def test_what_is_answered_from_the_cache_of_results_does_not_count(conn: Connection, renderer: Renderer) -> None:
    drawn = {"token_id": A, "cache_key": "same", "parameters": SEEDED}
    submit_one(conn, **drawn)
    claim = claim_one(conn, renderer)
    assert claim is not None
    assert finish(conn, renderer, claim.prediction_id, succeeded(claim), claim_id=claim.claim_id) is not None
    for _ in range(4):
        submit_one(conn, token_id=B)
    for _ in range(10):
        row = submit_one(conn, **drawn)
        assert row["drawn_before"]
        assert finish(conn, renderer, row["id"], Succeeded([ReusedImage(claim.prediction_id, 0)])) is not None
    submit_one(conn, token_id=A)
    assert claimed_tokens(conn, renderer) == [B, A, B, B, B]


def test_a_higher_priority_comes_first_and_has_turns_of_its_own(conn: Connection, renderer: Renderer) -> None:
    for _ in range(2):
        submit_one(conn, token_id=A)
    for token in (B, B, C):
        submit_one(conn, token_id=token, priority=5)
    assert claimed_tokens(conn, renderer) == [B, C, B, A, A]


def test_the_backlog_of_one_model_does_not_count_in_the_queue_of_another(conn: Connection, renderer: Renderer) -> None:
    for _ in range(5):
        submit_one(conn, token_id=A, model="darkroom/other", queue_name="draw:darkroom/other")
    submit_one(conn, token_id=A)
    submit_one(conn, token_id=B)
    assert claimed_tokens(conn, renderer) == [A, B]


def test_without_turns_or_without_tokens_the_oldest_is_first(conn: Connection, renderer: Renderer) -> None:
    for token in (A, A, A, B):
        submit_one(conn, token_id=token, is_fair=False)
    assert claimed_tokens(conn, renderer) == [A, A, A, B]
    waiting = [submit_one(conn, token_id=None)["id"] for _ in range(3)]
    claims = [claim_one(conn, renderer) for _ in range(3)]
    assert [claim.prediction_id for claim in claims if claim] == waiting


def test_one_that_is_handed_back_keeps_its_turn(conn: Connection, renderer: Renderer) -> None:
    first = submit_one(conn, token_id=A)
    submit_one(conn, token_id=A)
    submit_one(conn, token_id=B)
    claim = claim_one(conn, renderer)
    assert claim is not None
    assert claim.prediction_id == first["id"]
    conn.execute("DELETE FROM procrastinate_jobs WHERE id = %s", (first["queue_job_id"],))  # so a new job is inserted
    assert hand_back(conn, renderer, claim.prediction_id, claim.claim_id)
    claims = [claim_one(conn, renderer) for _ in range(3)]
    of_a = [claim.prediction_id for claim in claims if claim and claim.prediction["token_id"] == A]
    assert of_a[0] == first["id"]


def test_the_position_in_the_queue_is_the_order_of_the_claims(conn: Connection, renderer: Renderer) -> None:
    for token in (A, A, A, B, B, C):
        submit_one(conn, token_id=token)
    state = read_queue_state(conn, MODEL, version="1", max_images=1)
    by_position = sorted(state.waiting, key=state.waiting.__getitem__)
    claims = [claim_one(conn, renderer) for _ in range(6)]
    assert [claim.prediction_id for claim in claims if claim] == by_position


ACTIONS = st.lists(st.one_of(st.sampled_from(["claim"]), st.integers(1, 5)), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_a_newcomer_waits_for_at_most_one_prediction_of_each_other_token(
    conn: Connection, renderer: Renderer, actions: list[str | int]
) -> None:
    """This holds for any order of submits and claims. `actions`: "claim", or the token that submits one."""
    queue = f"t{uuid4().hex[:12]}"
    waiting: dict[int, list[str]] = {token: [] for token in range(1, 6)}
    # By id of a prediction that found none of its own token: how many of each other token may be before it, and were.
    may_wait_for: dict[str, int] = {}
    waited_for: dict[str, Counter[int]] = {}
    seen: set[int] = set()
    for action in [*actions, *["claim"] * len(actions)]:
        if isinstance(action, int):
            row = submit_one(conn, token_id=action, queue_name=queue, model=queue)
            if not waiting[action]:
                may_wait_for[row["id"]] = (
                    1 if action not in seen else 2
                )  # it may have had its turn of this round already
                waited_for[row["id"]] = Counter()
            waiting[action].append(row["id"])
            seen.add(action)
            continue
        claim = claim_one(conn, renderer, queue_name=queue)
        if claim is None:
            continue
        assert claim.prediction_id == waiting[claim.prediction["token_id"]].pop(0), "each token's own are in order"
        if (limit := may_wait_for.pop(claim.prediction_id, None)) is not None:
            assert max(waited_for[claim.prediction_id].values(), default=0) <= limit
        for each in may_wait_for:
            waited_for[each][claim.prediction["token_id"]] += 1
    assert not any(waiting.values())
