"""Making a fault of the schedule happen, and ending those that last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.deployment import Deployment
from tests.chaos.processes import RoleProcess
from tests.chaos.schedule import Fault


class Faults:
    """Strikes a deployment by a schedule; `done` counts what struck, by kind."""

    def __init__(self, deployment: Deployment, schedule: list[Fault]) -> None:
        self.done: Counter[str] = Counter()
        self._deployment = deployment
        self._left = list(schedule)
        self._ends: list[tuple[float, Callable[[], None]]] = []

    @property
    def are_over(self) -> bool:
        return not self._left and not self._ends

    def tick(self, since_start_s: float) -> None:
        now = time.monotonic()
        for end in [end for end in self._ends if end[0] <= now]:
            self._ends.remove(end)
            end[1]()
        for fault in [fault for fault in self._left if fault.at_s <= since_start_s]:
            if self._strike(fault):  # otherwise its target is just starting: it strikes as soon as there is one
                self._left.remove(fault)
                self.done[fault.kind] += 1

    def _strike(self, fault: Fault) -> bool:
        here = self._deployment
        lasts = self._later(fault.lasts_s)
        match fault.kind:
            case "worker killed":
                return _pick(here.workers, fault).kill()
            case "worker frozen":
                return self._freeze(here.workers, fault, lasts)
            case "worker told to stop":
                return _pick(here.workers, fault).terminate()
            case "worker dies at a crash point" | "courier dies at a crash point":
                roles = here.workers if fault.kind.startswith("worker") else here.couriers
                assert fault.crash_point is not None
                return _pick(roles, fault).kill(arm=(fault.crash_point, fault.nth))
            case "host killed":
                return _pick(here.hosts, fault).kill()
            case "host told to stop":
                return _pick(here.hosts, fault).terminate()
            case "worker or warm parent of a host killed":
                return _pick(here.hosts, fault).kill_child(fault.target)
            case "courier killed":
                return _pick(here.couriers, fault).kill()
            case "courier frozen":
                return self._freeze(here.couriers, fault, lasts)
            case "courier told to stop":
                return _pick(here.couriers, fault).terminate()
            case "API killed":
                return _pick(here.apis, fault).kill()
            case "API told to stop":
                return _pick(here.apis, fault).terminate()
            case "Postgres stopped at once":
                return here.pair.stop_at_once(fault.lasts_s)
            case "Postgres failed over: primary killed":
                return here.pair.fail_over("killed", noticed_after_s=fault.lasts_s)
            case "Postgres failed over: primary cut off":
                return here.pair.fail_over("cut off", noticed_after_s=fault.lasts_s)
            case "Postgres failed over: primary demoted":
                return here.pair.fail_over("demoted", noticed_after_s=fault.lasts_s)
            case "Postgres read-only":
                return here.pair.make_read_only(fault.lasts_s)
            case "pooler killed":
                return here.kill_pooler(fault.lasts_s)
            case "S3 killed":
                if here.s3.process.poll() is not None:
                    return False
                here.kill_s3(fault.lasts_s)
            case "network to Postgres cut":
                here.proxy.cut()
                lasts(here.proxy.heal)
            case "network to Postgres frozen":
                here.proxy.freeze()
                lasts(here.proxy.heal)
            case "LISTEN connections ended":
                here.end_listen_connections()
            case "receivers unreachable":
                here.receiver.is_open = False
                lasts(lambda: setattr(here.receiver, "is_open", True))
        return True

    def _later(self, after_s: float) -> Callable[[Callable[[], None]], None]:
        return lambda action: self._ends.append((time.monotonic() + after_s, action))

    def _freeze(self, roles: list[RoleProcess], fault: Fault, lasts: Callable[[Callable[[], None]], None]) -> bool:
        role = _pick(roles, fault)
        if role.frozen or not role.freeze():
            return False
        lasts(role.thaw)
        return True


def _pick(roles: list[RoleProcess], fault: Fault) -> RoleProcess:
    return roles[fault.target % len(roles)]
