"""The rules by which `darkroom up` starts and stops workers."""

from __future__ import annotations

from cli.up.autoscale import Decision, decide
from cli.up.supervise import BackOff
from storage.workers.demand import Demand


def test_nothing_runs_while_nothing_waits() -> None:
    assert decide({}, {}, limit=4) == Decision()
    assert decide({"a": Demand(0, 0)}, {"a": 1}, limit=4) == Decision()


def test_one_prediction_gets_one_worker_and_many_get_as_many_as_there_may_be() -> None:
    assert decide({"a": Demand(1, 0)}, {}, limit=4).start == ["a"]
    assert decide({"a": Demand(50, 0)}, {}, limit=3).start == ["a", "a", "a"]
    assert decide({"a": Demand(50, 2)}, {"a": 2}, limit=3).start == ["a"]


def test_a_worker_that_is_on_its_way_is_not_started_again() -> None:
    assert decide({"a": Demand(1, 0)}, {"a": 1}, limit=4) == Decision()
    assert decide({"a": Demand(0, 3)}, {"a": 1}, limit=4) == Decision()


def test_models_without_a_worker_come_first() -> None:
    assert decide({"a": Demand(50, 0), "b": Demand(1, 0)}, {}, limit=2).start == ["a", "b"]
    assert decide({"a": Demand(50, 1), "b": Demand(1, 0)}, {"a": 1}, limit=2).start == ["b"]


def test_an_idle_worker_makes_place_at_once_a_busy_one_only_now_and_then() -> None:
    idle = {"b": Demand(1, 0)}
    assert decide(idle, {"a": 1}, limit=1, may_take_busy=False) == Decision(stop=["a"])
    busy = {"a": Demand(50, 1), "b": Demand(1, 0)}
    assert decide(busy, {"a": 1}, limit=1, may_take_busy=False) == Decision()
    assert decide(busy, {"a": 1}, limit=1) == Decision(stop=["a"])


def test_a_model_that_could_not_be_loaded_sends_nobody_away_but_takes_a_free_place() -> None:
    demand = {"broken": Demand(1, 0)}
    assert decide(demand, {"good": 1}, limit=1, modest={"broken"}) == Decision()
    assert decide(demand, {"good": 1}, limit=2, modest={"broken"}) == Decision(start=["broken"])


def test_models_in_equal_need_are_started_in_the_order_given() -> None:
    demand = {"c": Demand(1, 0), "a": Demand(1, 0), "b": Demand(1, 0)}
    assert decide(demand, {}, limit=2).start == ["c", "a"]


def test_one_place_is_made_for_each_model_that_has_none_not_more() -> None:
    demand = {"a": Demand(50, 2), "b": Demand(9, 0)}
    assert decide(demand, {"a": 2}, limit=2) == Decision(stop=["a"])
    assert decide(demand, {"a": 1}, limit=2, leaving=1) == Decision()


def test_the_only_worker_of_a_waiting_model_is_not_taken_for_a_model_that_rests() -> None:
    demand = {"a": Demand(5, 1), "b": Demand(1, 0)}
    assert decide(demand, {"a": 1}, limit=2, resting={"b"}).stop == []
    assert decide(demand, {"a": 1}, limit=2, resting={"b"}).start == ["a"]


def test_what_keeps_dying_is_started_more_and_more_seldom() -> None:
    back_off = BackOff()
    assert [back_off.after_failure(lived_s=1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert back_off.after_failure(lived_s=61) == 1


def test_a_server_or_a_worker_is_started_again_at_once_the_first_time() -> None:
    back_off = BackOff(first_delay_s=0.0)
    assert [back_off.after_failure(lived_s=1) for _ in range(3)] == [0, 2, 4]


def test_who_did_well_in_between_fails_for_the_first_time_again() -> None:
    back_off = BackOff()
    for _ in range(5):
        back_off.after_failure(lived_s=1)
    back_off.forget()
    assert [back_off.after_failure(lived_s=1) for _ in range(2)] == [1, 2]
