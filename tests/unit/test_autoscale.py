"""The rules by which `darkroom up` starts and stops workers."""

from __future__ import annotations

from functools import partial

from cli.host.demand.autoscale import Decision, Running, Stop
from cli.host.demand.autoscale import decide as decide_with
from cli.supervision.supervise import RestartDelay
from storage.workers.demand import Demand
from storage.workers.warm import WorkerBounds

decide = partial(decide_with, switch_after_s=30.0)


def ready(*models: str, turn_s: float = 60.0) -> list[Running]:
    """Workers that have been ready for `turn_s`, in the places 1, 2, …"""
    return [Running(place, model, turn_s) for place, model in enumerate(models, start=1)]


def test_nothing_runs_while_nothing_waits() -> None:
    assert decide({}, [], limit=4) == Decision()
    assert decide({"a": Demand(0, 0)}, ready("a"), limit=4) == Decision()


def test_one_prediction_gets_one_worker_and_many_get_as_many_as_there_may_be() -> None:
    assert decide({"a": Demand(1, 0)}, [], limit=4).start == ["a"]
    assert decide({"a": Demand(50, 0)}, [], limit=3).start == ["a", "a", "a"]
    assert decide({"a": Demand(50, 2)}, ready("a", "a"), limit=3).start == ["a"]


def test_a_worker_that_is_on_its_way_is_not_started_again() -> None:
    assert decide({"a": Demand(1, 0)}, [Running(1, "a")], limit=4) == Decision()
    assert decide({"a": Demand(0, 3)}, ready("a"), limit=4) == Decision()


def test_models_without_a_worker_come_first() -> None:
    assert decide({"a": Demand(50, 0), "b": Demand(1, 0)}, [], limit=2).start == ["a", "b"]
    assert decide({"a": Demand(50, 1), "b": Demand(1, 0)}, ready("a"), limit=2).start == ["b"]


def test_the_model_that_has_waited_longest_gets_the_free_place_however_large_the_backlog_of_another() -> None:
    demand = {"a": Demand(60, 0), "b": Demand(1, 0)}
    assert decide(demand, [], limit=1, waited_s={"a": 2.0, "b": 30.0}).start == ["b"]


def test_a_place_that_was_freed_for_a_model_is_its_own() -> None:
    demand = {"a": Demand(60, 0), "b": Demand(1, 0)}
    assert decide(demand, [], limit=1, waited_s={"a": 30.0, "b": 2.0}, reserved=["b"]).start == ["b"]
    assert decide({"a": Demand(60, 0)}, [], limit=1, reserved=["b"]).start == ["a"], "b has nothing to do any more"


def test_an_idle_worker_makes_place_at_once_a_busy_one_when_its_turn_is_over() -> None:
    assert decide({"b": Demand(1, 0)}, ready("a", turn_s=0), limit=1).stop == [Stop(1, "b")]
    busy = {"a": Demand(50, 1), "b": Demand(1, 0)}
    assert decide(busy, ready("a", turn_s=29.9), limit=1) == Decision()
    assert decide(busy, [Running(1, "a")], limit=1) == Decision(), "it still loads"
    assert decide(busy, ready("a", turn_s=30), limit=1) == Decision(stop=[Stop(1, "b")])


def test_each_worker_has_a_turn_of_its_own() -> None:
    busy = {"a": Demand(50, 1), "b": Demand(9, 1), "c": Demand(1, 0)}
    running = [Running(1, "a", 60.0), Running(2, "b", 5.0)]
    assert decide(busy, running, limit=2).stop == [Stop(1, "c")], "that b has just started doesn't protect a"


def test_a_model_that_could_not_be_loaded_stops_nobody_but_takes_a_free_place() -> None:
    demand = {"broken": Demand(1, 0)}
    assert decide(demand, ready("good"), limit=1, modest={"broken"}) == Decision()
    assert decide(demand, ready("good"), limit=2, modest={"broken"}) == Decision(start=["broken"])


def test_models_in_equal_need_are_started_in_the_order_given() -> None:
    demand = {"c": Demand(1, 0), "a": Demand(1, 0), "b": Demand(1, 0)}
    assert decide(demand, [], limit=2).start == ["c", "a"]


def test_one_place_is_made_for_each_model_that_has_none_not_more() -> None:
    demand = {"a": Demand(50, 2), "b": Demand(9, 0)}
    assert decide(demand, ready("a", "a"), limit=2).stop == [Stop(1, "b")]
    leaving = Running(2, "a", 60.0, is_leaving=True, makes_place_for="b")
    assert decide(demand, [*ready("a"), leaving], limit=2) == Decision()
    demand["c"] = Demand(1, 0)
    assert decide(demand, [*ready("a"), leaving], limit=2).stop == [Stop(1, "c")]


def test_the_place_of_a_worker_that_leaves_for_a_model_without_work_goes_to_the_next_in_line() -> None:
    leaving = Running(1, "a", 60.0, is_leaving=True, makes_place_for="b")
    demand = {"a": Demand(5, 1), "c": Demand(1, 0)}
    assert decide(demand, [leaving, Running(2, "a", 60.0)], limit=2) == Decision()


def test_the_only_worker_of_a_waiting_model_is_not_taken_for_a_model_that_rests() -> None:
    demand = {"a": Demand(5, 1), "b": Demand(1, 0)}
    assert decide(demand, ready("a"), limit=2, resting={"b"}).stop == []
    assert decide(demand, ready("a"), limit=2, resting={"b"}).start == ["a"]


def test_workers_that_are_to_stay_ready_are_started_in_free_places_only() -> None:
    bounds = {"a": WorkerBounds(at_least=2), "b": WorkerBounds(at_least=1)}
    assert decide({}, [], limit=4, bounds=bounds).start == ["a", "b", "a"]
    assert decide({}, ready("a", "a", "b"), limit=4, bounds=bounds) == Decision()
    assert decide({}, ready("c", "c"), limit=2, bounds=bounds) == Decision(), "c ends by itself when it is idle"
    assert decide({}, [], limit=4, bounds=bounds, elsewhere={"a": 2}).start == ["b"], "another host has them"
    assert decide({}, [], limit=4, bounds=bounds, resting={"a"}).start == ["b"]


def test_work_comes_before_workers_that_only_stay_ready_and_these_before_further_workers_for_a_backlog() -> None:
    bounds = {"a": WorkerBounds(at_least=1)}
    assert decide({"b": Demand(9, 0)}, [], limit=1, bounds=bounds).start == ["b"]
    assert decide({"b": Demand(9, 0)}, [], limit=3, bounds=bounds).start == ["b", "a", "b"]


def test_a_worker_that_stays_ready_makes_place_for_work_but_after_one_that_nobody_asked_for() -> None:
    bounds = {"a": WorkerBounds(at_least=1)}
    work = {"c": Demand(1, 0)}
    assert decide(work, ready("a"), limit=1, bounds=bounds).stop == [Stop(1, "c")]
    assert decide(work, ready("a", "b"), limit=2, bounds=bounds).stop == [Stop(2, "c")]
    assert decide(work, ready("a", "a"), limit=2, bounds=bounds).stop == [Stop(1, "c")], "one of them may go"


def test_a_model_gets_no_more_workers_than_it_may_have() -> None:
    demand = {"a": Demand(50, 0)}
    bounds = {"a": WorkerBounds(at_most=2)}
    assert decide(demand, [], limit=4, bounds=bounds).start == ["a", "a"]
    assert decide(demand, ready("a"), limit=4, bounds=bounds, elsewhere={"a": 1}) == Decision()
    none = {"a": WorkerBounds(at_most=0)}
    assert decide(demand, [], limit=4, bounds=none) == Decision()
    assert decide(demand, ready("b"), limit=1, bounds=none) == Decision(), "and nobody makes place for it"


def test_what_keeps_dying_is_started_more_and_more_seldom() -> None:
    restart_delay = RestartDelay()
    assert [restart_delay.after_failure(lived_s=1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert restart_delay.after_failure(lived_s=61) == 1


def test_a_server_or_a_worker_is_started_again_at_once_the_first_time() -> None:
    restart_delay = RestartDelay(first_delay_s=0.0)
    assert [restart_delay.after_failure(lived_s=1) for _ in range(3)] == [0, 2, 4]


def test_who_did_well_in_between_fails_for_the_first_time_again() -> None:
    restart_delay = RestartDelay()
    for _ in range(5):
        restart_delay.after_failure(lived_s=1)
    restart_delay.reset()
    assert [restart_delay.after_failure(lived_s=1) for _ in range(2)] == [1, 2]
