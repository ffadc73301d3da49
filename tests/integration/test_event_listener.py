"""One LISTEN fanned out: what a reader gets, in order, when it is slow, and when the connection was away."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Iterator

import pytest
from PIL import Image

from storage.postgres.database import Connection
from storage.postgres.feed import FEED_LENGTH, Feed, Preview, Signal, Step
from storage.postgres.listener import EventListener
from storage.postgres.notify import CHANNEL
from storage.predictions.progress import progress_line, read_progress
from storage.settings import Settings
from storage.workers.registry import WorkerRow, say_alive
from tests.support.drawing_news import DrawingNews, as_webp, drawing_news


@pytest.fixture
def news(settings: Settings) -> Iterator[DrawingNews]:
    with drawing_news(settings) as told:
        yield told


def test_news_come_in_order_and_only_to_those_who_follow(
    events: EventListener, news: DrawingNews, conn: Connection
) -> None:
    with events.follow("a") as feed, events.follow("b") as other:
        assert (feed.next(0), other.next(0)) == (Signal.MOVED, Signal.MOVED)  # read the row after subscribing
        picture = Image.new("RGB", (64, 64), "red")
        news.tell("a", 1, 8, picture)
        assert feed.next(30) == Step(1, 8)
        assert feed.next(30) == Preview(base64.b64encode(as_webp(picture)).decode())
        conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps({"id": "a", "status": "succeeded"})))
        assert feed.next(30) is Signal.MOVED
        assert other.next(0.05) is None


def test_a_picture_that_compresses_badly_is_shown_as_small_as_a_notify_can_carry(
    events: EventListener, news: DrawingNews
) -> None:
    noise = Image.frombytes("RGB", (512, 512), random.Random(7).randbytes(3 * 512 * 512))
    with events.follow("a") as feed:
        feed.next(0)
        news.tell("a", 1, 8, noise)
        assert feed.next(30) == Step(1, 8)
        shown = feed.next(30)
        assert isinstance(shown, Preview)
        webp = base64.b64decode(shown.webp_base64)
        assert 1_000 < len(webp) <= 5_000
        assert Image.open(io.BytesIO(webp)).format == "WEBP"


def test_a_slow_reader_is_told_to_read_the_row_instead() -> None:
    feed = Feed()
    for step in range(FEED_LENGTH):
        feed.put(Step(step, 100))
    assert [feed.next(0), feed.next(0), feed.next(0)] == [Signal.MOVED, Step(FEED_LENGTH - 1, 100), None]


def test_moves_in_a_row_are_one() -> None:
    feed = Feed()
    feed.put(Signal.MOVED)
    feed.put(Signal.MOVED)
    assert [feed.next(0), feed.next(0)] == [Signal.MOVED, None]


def test_after_a_reconnect_everybody_reads_again(events: EventListener, news: DrawingNews, conn: Connection) -> None:
    with events.follow("a") as feed:
        feed.next(0)
        moves = events.moves
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'darkroom test listener'"
            " AND datname = current_database()"
        )
        assert feed.next(30) is Signal.MOVED
        assert events.moves > moves
        news.tell("a", 1, 8)
        assert feed.next(30) == Step(1, 8)


def test_closing_ends_all_feeds_and_those_to_come(events: EventListener) -> None:
    with events.follow("a") as feed:
        feed.put(Step(1, 8))
        events.close()
        assert [feed.next(0), feed.next(0)] == [Signal.CLOSED, Signal.CLOSED]
    with events.follow("a") as late:
        assert late.next(0) is Signal.CLOSED


def test_what_nobody_understands_is_passed_over(events: EventListener, news: DrawingNews, conn: Connection) -> None:
    with events.follow("a") as feed:
        feed.next(0)
        for payload in ("no json", "[]", "{}", '{"id": "a", "step": "x"}'):
            conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        news.tell("a", 2, 8)
        assert feed.next(30) == Step(2, 8)


def test_a_worker_tells_when_it_begins_and_ends_to_load(
    events: EventListener, news: DrawingNews, conn: Connection
) -> None:
    from dataclasses import replace
    from uuid import uuid4

    def moved(presence: WorkerRow) -> bool:
        before = events.moves
        say_alive(conn, presence)
        news.tell("a", 1, 8)  # comes after what say_alive may have notified
        while feed.next(30) != Step(1, 8):
            pass
        return events.moves > before

    worker = WorkerRow(id=uuid4(), hostname="here", pid=1, model="darkroom/blank", state="loading")
    with events.follow("a") as feed:
        assert moved(worker)
        assert not moved(worker)
        assert moved(replace(worker, state="idle"))
        assert not moved(replace(worker, state="drawing"))
        assert not moved(replace(worker, state="idle"))


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ("", None),
        ("Using seed: 7\n", None),
        (f"Using seed: 7\n{progress_line(1, 8)}\n", (1, 8)),
        (f"{progress_line(1, 8)}\n{progress_line(8, 8)}\nand more\n", (8, 8)),
        ("a | b / c\n", None),
        ("|1/", None),
    ],
)
def test_progress_is_read_out_of_the_logs(logs: str, progress: tuple[int, int] | None) -> None:
    assert read_progress(logs) == progress


def test_a_listener_that_hears_nothing_stops_without_waiting_for_its_next_look(
    settings: Settings, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres.notify.CHECK_EVERY_S", 3600.0)
    listener = EventListener(settings.direct_url, name="test")
    listener.start()
    assert listener._listener.connected.wait(60)
    with listener.follow("a") as feed:
        feed.next(0)
        conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps({"id": "a", "status": "succeeded"})))
        assert feed.next(30) is Signal.MOVED
    listener.stop()
    assert not listener._listener._thread.is_alive()
