"""Clients that submit over HTTP, insist while the API is away, and cancel now and then."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from urllib.parse import urlsplit

from tests.chaos.deployment import HOSTED, MODEL
from tests.chaos.receiver import Receiver, choose_manner
from tests.chaos.schedule import Profile
from tests.pictures import data_url, file_of, picture

CLIENTS = 6
HOSTED_EVERY = 4  # each fourth prediction is for one of the hosts' models
CANCEL_CHANCE = 0.06
DEADLINE_CHANCE = 0.03
POISON_PROMPT = "poison"
NO_ANSWER = "no answer"
PICTURE_CHANCE = 0.25
# Start images: few, so that predictions share them, and the last one that refers to a picture may be any.
PICTURES = tuple(data_url(file_of(picture(64, 64, colour))) for colour in ("red", "green", "blue"))
# So long that whoever kills its workers surely finds it there.
POISON_STEPS = 60


class Load:
    """Spreads a run's predictions evenly over its time. `accepted`: the ids that were answered with 201."""

    def __init__(self, urls: list[str], receiver: Receiver, profile: Profile, seed: int) -> None:
        self.accepted: set[str] = set()
        self.accepted_at: list[float] = []  # time.time()
        self.refused: Counter[str] = Counter()  # POSTs that were not accepted, so sent again, by what was answered
        self._urls = urls
        self._receiver = receiver
        self._profile = profile
        self._seed = seed
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._next = 0
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._stop.set()

    def _run(self, client: int) -> None:
        while not self._stop.is_set():
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= self._profile.predictions:
                return
            at_s = self._profile.load_s * number / self._profile.predictions
            self._stop.wait(max(0.0, self._began + at_s - time.monotonic()))
            self._submit(number, random.Random(self._seed * 1_000_003 + number))

    def _submit(self, number: int, chance: random.Random) -> None:
        hostile = self._profile.hostile
        manner = choose_manner(chance) if hostile else "good"
        inputs: dict[str, object] = {
            "prompt": f"a circle, number {number}",
            "num_inference_steps": chance.randint(*self._profile.steps),
            "num_outputs": chance.choice((1, 1, 1, 2)),
            "seed": number,
        }
        if chance.random() < PICTURE_CHANCE:
            inputs |= {"image": chance.choice(PICTURES), "strength": 0.6}
        if hostile and number == 2:
            inputs |= {"prompt": POISON_PROMPT, "num_inference_steps": POISON_STEPS}
            manner = "good"
        model = HOSTED[number // HOSTED_EVERY % len(HOSTED)] if number % HOSTED_EVERY == 0 else MODEL
        body: dict[str, object] = {"model": model, "input": inputs, "webhook": self._receiver.url(manner, number)}
        if chance.random() < 0.7:
            body["webhook_events_filter"] = ["completed"]
        headers = {"Idempotency-Key": f"chaos-{self._seed}-{number}"}
        fate = chance.random() if hostile and number != 2 else 1.0
        if fate < DEADLINE_CHANCE:
            headers["Cancel-After"] = "5"
        while not self._stop.is_set():
            status, answer = self._post(chance.choice(self._urls), "/v1/predictions", body, headers)
            if status == 201:
                break
            with self._lock:
                self.refused[str(status) if status else NO_ANSWER] += 1
            self._stop.wait(0.2)
        else:
            return
        with self._lock:
            self.accepted.add(str(answer["id"]))
            self.accepted_at.append(time.time())
        if DEADLINE_CHANCE <= fate < DEADLINE_CHANCE + CANCEL_CHANCE:
            self._stop.wait(chance.uniform(0, 1.5))
            self._post(chance.choice(self._urls), f"/v1/predictions/{answer['id']}/cancel", {}, {})

    def _post(
        self, url: str, path: str, body: dict[str, object], headers: dict[str, str]
    ) -> tuple[int, dict[str, object]]:
        with (
            suppress(OSError, http.client.HTTPException, ValueError),
            closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)) as connection,
        ):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        return 0, {}
