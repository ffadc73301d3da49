"""Which deliveries a courier has slots for, and what it makes of receivers that hang."""

import ipaddress
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from courier import slots as slots_module
from courier.slots import MAX_STAY_AWAY_S, NoSlot, Slots, Visit
from storage.outbound.check_url import Target
from storage.outbound.parse_url import parse_url
from storage.webhooks.outbox import ClaimedDelivery, Openings, lane_of


def delivery(token_id: int, host: str) -> ClaimedDelivery:
    now = datetime.now(UTC)
    return ClaimedDelivery("msg", "p", token_id, host, "completed", f"http://{host}/", "{}", 0, now, False, [])


def is_open(openings: Openings | None, token_id: int, host: str) -> bool:
    """What the claim's SQL makes of it."""
    if openings is None or token_id in openings.closed_tokens or host in openings.closed_hosts:
        return False
    lane = lane_of(token_id, host)
    listed_only = openings.listed_only or token_id in openings.listed_only_tokens
    return lane not in openings.closed_lanes and (not listed_only or lane in openings.listed_lanes)


def enter_all(slots: Slots, token_id: int, hosts: list[str]) -> list[Visit]:
    """Enter wherever the slots are open, until they are nowhere."""
    visits: list[Visit] = []
    while open_hosts := [host for host in hosts if is_open(slots.openings(), token_id, host)]:
        visits.append(slots.enter(delivery(token_id, open_hosts[len(visits) % len(open_hosts)])))
    return visits


def let_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, whatever is in flight has been for longer than a quick receiver takes."""
    monkeypatch.setattr(slots_module, "QUICK_S", -1.0)


def hosts(count: int) -> list[str]:
    return [f"h{number}.example" for number in range(count)]


def test_a_token_whose_receivers_hang_leaves_slots_for_another_ones_unknown_receiver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = Slots(32)
    assert len(enter_all(slots, 1, hosts(100))) == 4
    let_hang(monkeypatch)
    assert len(enter_all(slots, 1, hosts(100))) == 8  # those that are known to be slow have slots of their own
    assert is_open(slots.openings(), 2, "new.example")
    assert not is_open(slots.openings(), 1, "new.example")


def test_what_answered_quickly_goes_on_beside_what_hangs_also_where_all_are_one_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = Slots(32)
    slots.leave(slots.enter(delivery(0, "quick.example")), answered=True)
    enter_all(slots, 0, hosts(100))
    openings = slots.openings()
    assert is_open(openings, 0, "quick.example")
    assert not is_open(openings, 0, "new.example")
    quick = slots.enter(delivery(0, "quick.example"))
    let_hang(monkeypatch)
    assert slots.openings() is not None
    slots.leave(quick, answered=True)  # too late to be quick any more
    monkeypatch.setattr(slots_module, "QUICK_S", 60.0)
    assert lane_of(0, "quick.example") in getattr(slots.openings(), "listed_lanes", [])  # among the slow ones


def test_an_error_that_came_quickly_makes_no_receiver_quick() -> None:
    slots = Slots(4)
    slots.leave(slots.enter(delivery(1, "refused.example")), answered=False)
    enter_all(slots, 1, hosts(10))
    assert not is_open(slots.openings(), 1, "refused.example")


def test_one_token_gets_half_of_a_host_and_others_their_share_of_it() -> None:
    slots = Slots(400)
    assert len(enter_all(slots, 1, ["shared.example"])) == 4
    assert len(enter_all(slots, 2, ["shared.example"])) == 2
    assert is_open(slots.openings(), 3, "shared.example")
    assert is_open(slots.openings(), 1, "another.example")


@pytest.mark.parametrize("number", range(1, 10))
def test_with_few_slots_a_delivery_is_never_shut_out_for_ever(number: int) -> None:
    slots = Slots(number)
    for _ in range(3):
        visits = enter_all(slots, 1, hosts(20))
        assert visits, "an idle courier delivers something"
        for visit in visits:
            slots.leave(visit, answered=True)
    assert slots._visits == {}
    assert slots._hosts == {}


def target(*addresses: str) -> Target:
    return Target(parse_url("http://h.example/"), tuple(ipaddress.ip_address(address) for address in addresses))


def test_host_names_of_one_address_share_its_slots_and_so_does_a_whole_ipv6_network() -> None:
    for names in (["192.0.2.1"] * 9, [f"2001:db8::{number + 1}" for number in range(9)]):
        slots = Slots(400)
        with ExitStack() as held:
            for number, name in enumerate(names):
                visit = slots.enter(delivery(1, f"h{number}.example"))
                if number < 8:
                    held.enter_context(slots.at_addresses(visit, target(name)))
                    continue
                with pytest.raises(NoSlot), slots.at_addresses(visit, target(name)):
                    pass
                with slots.at_addresses(visit, target("198.51.100.7")):
                    pass
            with slots.at_addresses(slots.enter(delivery(2, "x.example")), target(names[0])):
                pass
        assert slots._addresses == {}


def test_the_more_are_turned_away_at_an_address_the_longer_they_stay_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(slots_module, "SLOTS_PER_ADDRESS", 1)
    slots = Slots(400)
    visit = slots.enter(delivery(1, "h.example"))

    def stay_away_s() -> float:
        with pytest.raises(NoSlot) as turned_away, slots.at_addresses(visit, target("192.0.2.1")):
            pass
        return turned_away.value.stay_away_s

    with slots.at_addresses(visit, target("192.0.2.1")):
        first, *_, last = (stay_away_s() for _ in range(2000))
    assert 1 <= first < 2
    assert last == MAX_STAY_AWAY_S
    with slots.at_addresses(visit, target("192.0.2.1")):
        assert stay_away_s() < 2, "an idle address forgets"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(32)
    for number in range(3000):
        slots.leave(slots.enter(delivery(number, f"h{number}.example")), answered=True)
    assert len(slots._quick) == slots_module.MAX_REMEMBERED
    assert len(slots._turns) == slots_module.MAX_TURNS
    let_hang(monkeypatch)
    for number in range(3000):
        slots.leave(slots.enter(delivery(number, f"h{number}.example")), answered=False)
    assert len(slots._slow) == slots_module.MAX_REMEMBERED
