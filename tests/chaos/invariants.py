"""What must hold after a run, checked from outside: in the database, in the bucket, in the receiver's own log.

Each check returns its violations, in words; none means that it holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

from storage.access.sealing import open_sealer
from storage.access.signing_keys import active_webhook_secrets
from storage.postgres.database import Connection, Row
from storage.postgres.procrastinate import TASK_DRAW
from storage.predictions.read import read_images
from storage.predictions.render import Renderer
from storage.predictions.retention import expiry
from storage.predictions.states import MAX_ATTEMPTS, MAX_CRASHES, TRANSITIONS, PredictionStatus
from storage.s3.bucket import Bucket, ObjectMissing
from storage.settings import Settings
from storage.webhooks import outbox as deliveries
from tests.chaos.load import NO_ANSWER, POISON_PROMPT
from tests.chaos.receiver import Arrived, takes_in_the_end


@dataclass(frozen=True)
class World:
    """All there is to see once every process has ended."""

    conn: Connection
    renderer: Renderer
    bucket: Bucket
    settings: Settings
    accepted: set[str]
    arrived: list[Arrived]
    refused: Counter[str]

    def predictions(self) -> list[Row]:
        return self.conn.execute("SELECT * FROM predictions ORDER BY id").fetchall()

    def moves(self) -> dict[str, list[Row]]:
        """Every move of each prediction, in order."""
        moves: dict[str, list[Row]] = defaultdict(list)
        for row in self.conn.execute("SELECT * FROM chaos_moves ORDER BY n"):
            moves[row["prediction_id"]].append(row)
        return moves


def every_accepted_prediction_is_over(world: World) -> list[str]:
    rows = world.predictions()
    missing = world.accepted - {row["id"] for row in rows}
    open_ = [row for row in rows if not PredictionStatus(row["status"]).is_terminal]
    return [f"{id_} was accepted and is not there" for id_ in missing] + [
        f"{row['id']} is still {row['status']} (attempt {row['attempt']})" for row in open_
    ]


def whoever_is_not_accepted_is_told_to_try_again(world: World) -> list[str]:
    return [
        f"{n} POSTs were answered with {said}" for said, n in world.refused.items() if said not in ("503", NO_ANSWER)
    ]


def every_move_is_one_that_exists_and_the_end_is_the_end(world: World) -> list[str]:
    violations = []
    for id_, moves in world.moves().items():
        attempts = [move["attempt"] for move in moves]
        if attempts != sorted(attempts) or attempts[-1] > MAX_ATTEMPTS or moves[-1]["crashes"] > MAX_CRASHES:
            violations.append(f"{id_}: attempts {attempts}, crashes {moves[-1]['crashes']}")
        violations += [
            f"{id_}: {move['was']} → {move['status']}"
            for move in moves
            if move["was"] is not None and move["status"] not in TRANSITIONS[PredictionStatus(move["was"])]
        ]
        ends = [move["status"] for move in moves if PredictionStatus(move["status"]).is_terminal]
        if len(ends) > 1:
            violations.append(f"{id_} ended {len(ends)} times: {ends}")
    return violations


def one_set_of_images_is_published_by_the_claim_that_finished(world: World) -> list[str]:
    violations = []
    moves = world.moves()
    for row in world.predictions():
        images = read_images(world.conn, [row["id"]])[row["id"]]
        wanted = row["parameters"]["num_outputs"] if row["status"] == "succeeded" else 0
        if len(images) != wanted:
            violations.append(f"{row['id']} is {row['status']} with {len(images)} images, not {wanted}")
        finished_by = [move for move in moves[row["id"]] if move["status"] == "succeeded"]
        for image in images:
            name = f"/{row['id']}/{finished_by[0]['attempt']}-{finished_by[0]['was_claim']}/"
            if name not in image["object_key"]:
                violations.append(f"{row['id']} shows {image['object_key']}, of another claim")
    return violations


def every_image_is_in_the_bucket_with_its_sha256(world: World) -> list[str]:
    violations = []
    for row in world.conn.execute("SELECT * FROM objects").fetchall():
        try:
            body = b"".join(world.bucket.open(row["key"]).chunks)
        except ObjectMissing:
            violations.append(f"{row['key']} is not in the bucket")
            continue
        if hashlib.sha256(body).hexdigest() != row["sha256"] or len(body) != row["size_bytes"]:
            violations.append(f"{row['key']} holds other bytes than were published")
    return violations


def no_object_is_without_a_row_after_the_sweep(world: World) -> list[str]:
    expiry.sweep_orphans(world.conn, world.bucket, s3_prefix=world.settings.s3_prefix, unknown_after=timedelta(days=7))
    rows = {row["key"] for row in world.conn.execute("SELECT key FROM objects")}
    folders = [f"{world.settings.s3_prefix}/{name}/" for name in ("predictions", "inputs")]
    stored = {listed.key for folder in folders for page in world.bucket.pages(folder) for listed in page}
    return [f"{key} has no row" for key in sorted(stored - rows)]


def every_start_image_is_kept_with_its_prediction(world: World) -> list[str]:
    given = {
        row["prediction_id"]: row["object_key"]
        for row in world.conn.execute(
            "SELECT prediction_id, object_key FROM input_images JOIN objects ON key = object_key WHERE name = 'image'"
        )
    }
    return [
        f"{row['id']} was given a picture, and has {given.get(row['id'])}"
        for row in world.predictions()
        if (sha256 := row["parameters"].get("image")) and sha256 not in given.get(row["id"], "")
    ]


def nothing_hangs_in_the_queue(world: World) -> list[str]:
    """A minute after its worker's last heartbeat, a job of the webhook queue is pruned: here as if it had passed."""
    violations = [
        f"bell {row['id']} ({row['status']}) is left"
        for row in world.conn.execute("SELECT * FROM procrastinate_jobs WHERE task_name = %s", (TASK_DRAW,))
    ]
    world.conn.execute("UPDATE procrastinate_workers SET last_heartbeat = 'epoch'")
    while deliveries.prune_jobs(world.conn):
        pass
    rows = world.conn.execute("SELECT * FROM procrastinate_jobs WHERE task_name LIKE 'darkroom:deliver%'")
    return violations + [f"delivery job {row['id']} ({row['status']}) is left" for row in rows]


def every_end_is_told_to_whoever_can_be_told(world: World) -> list[str]:
    violations = []
    taken = {each.webhook_id for each in world.arrived if each.taken}
    told: dict[str, list[Row]] = defaultdict(list)
    for row in world.conn.execute("SELECT * FROM webhook_deliveries WHERE event = 'completed'"):
        told[row["prediction_id"]].append(row)
    for row in world.predictions():
        events = told[row["id"]]
        if [event["url"] for event in events] != [row["webhook"]]:
            violations.append(f"{row['id']} has {len(events)} completed events")
            continue
        event = events[0]
        if not takes_in_the_end(event["url"]):
            if event["status"] != "failed":
                violations.append(f"{event['id']} to a receiver that is gone is {event['status']}")
        elif event["status"] != "delivered" or event["id"] not in taken:
            violations.append(f"{event['id']} of {row['id']} is {event['status']}, to {event['url']}")
    return violations


def all_attempts_carry_the_same_true_signed_body(world: World) -> list[str]:
    """Byte for byte what GET answers, where it is the last word; signed as Standard Webhooks says."""
    violations = []
    rows = {row["id"]: row for row in world.conn.execute("SELECT * FROM webhook_deliveries")}
    predictions = {row["id"]: row for row in world.predictions()}
    secrets = [Webhook(secret) for secret in active_webhook_secrets(world.conn, open_sealer(world.settings))]
    for each in world.arrived:
        row = rows.get(each.webhook_id)
        if row is None:
            violations.append(f"{each.webhook_id} arrived and is not in the outbox")
            continue
        if each.body.decode() != row["body"]:
            violations.append(f"{each.webhook_id} arrived with another body")
        moment = datetime.fromtimestamp(int(each.headers["webhook-timestamp"]), UTC)
        if each.headers["webhook-signature"] not in {
            secret.sign(each.webhook_id, moment, each.body.decode()) for secret in secrets
        }:
            violations.append(f"{each.webhook_id} arrived with a wrong signature")
        if each.path.startswith("/never-followed"):
            violations.append(f"{each.webhook_id} followed a redirect")
    for row in rows.values():
        if row["event"] == "completed":
            prediction = predictions[row["prediction_id"]]
            images = read_images(world.conn, [prediction["id"]])[prediction["id"]]
            if world.renderer.body(prediction, images) != row["body"]:
                violations.append(f"{row['id']} tells something else than GET {prediction['id']}")
    return violations


def a_start_is_told_at_most_once(world: World) -> list[str]:
    rows = world.conn.execute("SELECT prediction_id FROM webhook_deliveries WHERE event = 'start'")
    counts = Counter(row["prediction_id"] for row in rows)
    return [f"{id_} started {count} times" for id_, count in counts.items() if count > 1]


def whoever_killed_its_worker_is_drawn_alone_and_given_up(world: World) -> list[str]:
    violations = [
        f"{move['prediction_id']} was claimed beside one that had killed a worker, or the other way round"
        for moves in world.moves().values()
        for move in moves
        if move["beside_suspect"]
    ]
    for row in world.predictions():
        if row["crashes"] >= MAX_CRASHES and (row["status"] != "failed" or "died" not in (row["error"] or "")):
            violations.append(f"{row['id']} killed {row['crashes']} workers and is {row['status']}: {row['error']}")
        if row["input"]["prompt"] == POISON_PROMPT and row["status"] != "failed":
            violations.append(f"the poison prediction {row['id']} is {row['status']} after {row['crashes']} crashes")
    return violations


CHECKS: tuple[Callable[[World], list[str]], ...] = (
    every_accepted_prediction_is_over,
    whoever_is_not_accepted_is_told_to_try_again,
    every_move_is_one_that_exists_and_the_end_is_the_end,
    one_set_of_images_is_published_by_the_claim_that_finished,
    every_image_is_in_the_bucket_with_its_sha256,
    no_object_is_without_a_row_after_the_sweep,
    every_start_image_is_kept_with_its_prediction,
    nothing_hangs_in_the_queue,
    every_end_is_told_to_whoever_can_be_told,
    all_attempts_carry_the_same_true_signed_body,
    a_start_is_told_at_most_once,
    whoever_killed_its_worker_is_drawn_alone_and_given_up,
)


def violations_in(world: World) -> list[str]:
    """Everything that is wrong, each with the name of the check that found it."""
    return [f"{check.__name__}: {violation}" for check in CHECKS for violation in check(world)]
