"""The news of all predictions of a token: merged until they are read, and to nobody else."""

from __future__ import annotations

import json
from typing import Any

from storage.postgres.database import Connection
from storage.postgres.feed import MOVED_AT_MOST, OwnerFeed, OwnerNews, Preview, Signal, Step
from storage.postgres.listener import EventListener
from storage.postgres.notify import CHANNEL, LOGS, SUBMITTED_CHANNEL


def tell(conn: Connection, **event: Any) -> None:
    conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps(event)))


def next_moved(feed: OwnerFeed) -> list[str]:
    """The ids of what moved; none where nothing came for a while."""
    return list(feed.next(30).moved)


def test_each_owner_hears_of_its_own_and_who_follows_all_hears_of_all(events: EventListener, conn: Connection) -> None:
    with events.follow_owner(1) as mine, events.follow_owner(2) as other, events.follow_owner(None) as everything:
        for feed in (mine, other, everything):
            assert feed.next(30).begins_anew
        tell(conn, id="a", status="starting", token_id=1)
        assert next_moved(mine) == ["a"]
        assert next_moved(everything) == ["a"]
        tell(conn, id="b", status="starting", token_id=None)  # it was made while the API was open
        assert next_moved(everything) == ["b"]
        tell(conn, id="c", status="starting")  # by an older release, which doesn't say whose it is
        assert (next_moved(mine), next_moved(other)) == (["c"], ["c"])


def test_a_submission_is_told_to_owners_and_logs_to_those_who_follow_one(
    events: EventListener, conn: Connection
) -> None:
    with events.follow_owner(1) as owner, events.follow("a") as one:
        assert owner.next(30).begins_anew
        one.next(0)
        submitted = json.dumps({"id": "a", "status": "starting", "token_id": 1})
        conn.execute("SELECT pg_notify(%s, %s)", (SUBMITTED_CHANNEL, submitted))
        assert next_moved(owner) == ["a"]
        moves = events.moves
        tell(conn, id="a", status="processing", token_id=1, about=LOGS)
        assert one.next(30) is Signal.MOVED
        assert one.next(0) is None
        assert not owner.next(0)
        assert events.moves == moves  # no queue has changed


def test_of_each_prediction_the_newest_is_held() -> None:
    feed = OwnerFeed()
    feed.next(0)
    for step in range(1, 9):
        feed.put("a", Step(step, 8))
        feed.put("a", Preview(f"picture {step}"))
    for prediction_id in ("a", "b", "a"):
        feed.put(prediction_id, Signal.MOVED)
    news = feed.next(0)
    assert (news.steps, news.previews) == ({"a": Step(8, 8)}, {"a": Preview("picture 8")})
    assert list(news.moved) == ["b", "a"]
    assert feed.next(0) == OwnerNews()


def test_who_reads_too_slowly_reads_everything_again() -> None:
    feed = OwnerFeed()
    feed.next(0)
    for number in range(MOVED_AT_MOST + 1):
        feed.put(str(number), Signal.MOVED)
    assert feed.next(0) == OwnerNews(begins_anew=True)
    feed.put("a", Signal.MOVED)
    assert feed.next(0) == OwnerNews(moved={"a": None})


def test_closing_ends_it_once_and_for_all(events: EventListener) -> None:
    with events.follow_owner(1) as feed:
        assert feed.next(30).begins_anew
        events.close()
        assert [feed.next(0).end, feed.next(0).end] == [Signal.CLOSED, Signal.CLOSED]
        feed.revoke()
        assert feed.next(0).end is Signal.CLOSED
    with events.follow_owner(1) as late:
        assert late.next(0).end is Signal.CLOSED


def test_after_a_reconnect_everything_begins_anew(events: EventListener, conn: Connection) -> None:
    with events.follow_owner(1) as feed:
        for listener in ("test", "test submitted"):
            assert feed.next(30).begins_anew
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
                " AND datname = current_database()",
                (f"darkroom {listener} listener",),
            )
        assert feed.next(30).begins_anew
