"""Slots for POSTs in flight, so that no token and no receiver can take every thread of a courier.

A POST holds one slot of the courier, one of its receiver's host and one of each of its addresses. Each kind is shared
by tokens under one rule (`storage.outbound.fair_share`): a token may take another slot while it holds fewer than
are free.

The courier's slots are of three kinds: half are for receivers that were slow last time, a quarter for those of which
nothing is known and those that were quick, and a quarter is a reserve for those that were quick. So receivers that hang
hold up only each other, also where there are no tokens and everybody is one owner.
"""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from storage.outbound.check_url import Target
from storage.outbound.fair_share import FairShare
from storage.outbound.public_addresses import Address
from storage.webhooks.outbox import ClaimedDelivery, Openings, lane_of

# One token gets half of them: 4 POSTs at once to one host, 8 to one address, from one courier.
SLOTS_PER_HOST = 8
SLOTS_PER_ADDRESS = 16

# A receiver is quick if its last answer took no longer, and slow if it took longer or never came. One that keeps a POST
# waiting for longer at this moment is slow.
QUICK_S = 1.0
# So many of either are remembered, the latest ones.
MAX_REMEMBERED = 500

# The tokens whose last turn is remembered.
MAX_TURNS = 200

# How long a delivery waits for a slot at its address: quick receivers give one back within that time.
PATIENCE_S = 0.25

# How long a delivery that found no slot at its address stays away: longer where many do, so that they don't keep the
# database busy with coming back.
MIN_STAY_AWAY_S = 1.0
MAX_STAY_AWAY_S = 30.0
TURNED_AWAY_PER_SECOND = 20


class NoSlot(Exception):
    """The address has no slot free; come back after `stay_away_s`."""

    def __init__(self, stay_away_s: float) -> None:
        super().__init__(stay_away_s)
        self.stay_away_s = stay_away_s


@dataclass
class _Place:
    """A host or an address, while POSTs to it are in flight."""

    share: FairShare
    turned_away: int = 0


Lane = tuple[int, str]  # a token and a host


@dataclass(frozen=True, eq=False)
class Visit:
    """The slots that one POST holds, until `Slots.leave`."""

    token_id: int
    host: str
    kind: FairShare  # the courier's slots that it is counted in
    started_at: float = field(default_factory=time.monotonic)


class Slots:
    """Which POSTs are in flight, in this process. Thread-safe."""

    def __init__(self, slots: int) -> None:
        self._for_slow = FairShare(slots // 2)
        self._for_quick = FairShare(slots // 4)
        self._for_all = FairShare(slots - slots // 2 - slots // 4)
        self._hosts: dict[str, FairShare] = {}
        self._addresses: dict[str, _Place] = {}
        self._visits: dict[Lane, set[Visit]] = defaultdict(set)
        self._quick: OrderedDict[Lane, None] = OrderedDict()
        self._slow: OrderedDict[Lane, None] = OrderedDict()
        self._turns: OrderedDict[int, int] = OrderedDict()  # when a token was last served, the latest at the end
        self._turn = 0
        self._changed = threading.Condition()

    def openings(self) -> Openings | None:
        """What may be claimed now; None where no slot is free at all."""
        with self._changed:
            if not any(kind.free for kind in (self._for_all, self._for_quick, self._for_slow)):
                return None
            hanging = {lane for lane in self._visits if self._hangs(lane)}
            slow = hanging | self._slow.keys()
            quick = self._quick.keys() - slow
            open_slow = {lane for lane in slow if self._for_slow.has_room_for(lane[0])}
            listed = open_slow | {lane for lane in quick if self._for_quick.has_room_for(lane[0])}
            full = {lane for lane in self._visits if not self._hosts[lane[1]].has_room_for(lane[0])}
            listed_only = {token for token, _ in self._visits if not self._for_all.has_room_for(token)}
            return Openings(
                closed_tokens=sorted(listed_only - {token for token, _ in listed - full}),
                listed_only_tokens=sorted(listed_only),
                listed_only=self._for_all.free == 0,
                listed_lanes=[lane_of(*lane) for lane in listed],
                closed_hosts=[host for host, share in self._hosts.items() if share.free == 0],
                closed_lanes=[lane_of(*lane) for lane in full | (slow - open_slow)],
                tokens=list(self._turns),
                in_flight=[self._in_flight(token) for token in self._turns],
                turns=list(self._turns.values()),
            )

    def enter(self, claimed: ClaimedDelivery) -> Visit:
        """Take the slots of a delivery that was claimed by `openings`; no other thread may have entered in between."""
        token_id, host = lane = (claimed.token_id, claimed.host)
        with self._changed:
            is_slow = lane in self._slow or self._hangs(lane)
            first = self._for_slow if is_slow else self._for_all
            # Of the other kinds only where it has become slow or quick since.
            kinds = (first, self._for_all, self._for_quick, self._for_slow)
            kind = next(kind for kind in kinds if kind.has_room_for(token_id))
            kind.take(token_id)
            self._hosts.setdefault(host, FairShare(SLOTS_PER_HOST)).take(token_id)
            visit = Visit(token_id, host, kind)
            self._visits[lane].add(visit)
            self._turn += 1
            self._turns[token_id] = self._turn
            self._turns.move_to_end(token_id)
            self._forget_turns()
            return visit

    def leave(self, visit: Visit, *, answered: bool) -> None:
        """Give the slots back. `answered`: an HTTP answer came, with any status."""
        lane = (visit.token_id, visit.host)
        with self._changed:
            visit.kind.give_back(visit.token_id)
            self._hosts[visit.host].give_back(visit.token_id)
            if self._hosts[visit.host].is_idle:
                del self._hosts[visit.host]
            self._visits[lane].remove(visit)
            if not self._visits[lane]:
                del self._visits[lane]
            self._quick.pop(lane, None)
            self._slow.pop(lane, None)
            if time.monotonic() - visit.started_at > QUICK_S:
                _remember(self._slow, lane)
            elif answered:
                _remember(self._quick, lane)

    @contextmanager
    def at_addresses(self, visit: Visit, target: Target) -> Iterator[None]:
        """Hold a slot at each address of a target. Raises NoSlot, after PATIENCE_S at most for each."""
        with ExitStack() as held:
            for name in sorted({_name_of(address) for address in target.addresses}):
                held.enter_context(self._at_address(visit.token_id, name))
            yield

    @contextmanager
    def _at_address(self, token_id: int, name: str) -> Iterator[None]:
        def place() -> _Place:  # it may have become idle, and been forgotten, while we waited
            return self._addresses.setdefault(name, _Place(FairShare(SLOTS_PER_ADDRESS)))

        with self._changed:
            has_room: Callable[[], bool] = lambda: place().share.has_room_for(token_id)  # noqa: E731
            if not has_room() and not self._changed.wait_for(has_room, PATIENCE_S):
                turned_away = place().turned_away = place().turned_away + 1
                raise NoSlot(min(MIN_STAY_AWAY_S + turned_away / TURNED_AWAY_PER_SECOND, MAX_STAY_AWAY_S))
            place().share.take(token_id)
        try:
            yield
        finally:
            with self._changed:
                place().share.give_back(token_id)
                if place().share.is_idle:
                    del self._addresses[name]
                self._changed.notify_all()

    def _hangs(self, lane: Lane) -> bool:
        now = time.monotonic()
        return any(now - visit.started_at > QUICK_S for visit in self._visits.get(lane, ()))

    def _in_flight(self, token_id: int) -> int:
        return sum(kind.held_by(token_id) for kind in (self._for_all, self._for_quick, self._for_slow))

    def _forget_turns(self) -> None:
        """Tokens with POSTs in flight are never forgotten: their number is bounded by the slots."""
        if len(self._turns) > MAX_TURNS:
            busy = {token_id for token_id, _ in self._visits}
            del self._turns[next(token for token in self._turns if token not in busy)]


def _remember(lanes: OrderedDict[Lane, None], lane: Lane) -> None:
    lanes[lane] = None
    if len(lanes) > MAX_REMEMBERED:
        lanes.popitem(last=False)


def _name_of(address: Address) -> str:
    """An IPv6 address stands for its /64, which one customer has as a whole."""
    return str(ip_network(f"{address}/64", strict=False)) if isinstance(address, IPv6Address) else str(address)
