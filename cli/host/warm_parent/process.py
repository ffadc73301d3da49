"""The warm parent's side: import everything once, then fork a worker for each order that comes on the socket.

An order is a JSON object (`words`: the command line; `env`: settings of its own; `parent`: the pid of the supervisor;
`by`: until when it is good, `time.monotonic()`), with the writing end of the worker's output. The answer is
`{"pid": …}` or `{"error": …}`. The worker is forked twice, so that it becomes the supervisor's own child, and lives on
when this process ends.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

import psutil

from cli.host.warm_parent.linux import end_with_parent, native_threads, open_devices, set_command_line

EXIT_CANT_BE_WARM = 3
LONGEST_ORDER_BYTES = 65_536
ADOPTED_WITHIN_S = 5.0


def serve(orders: socket.socket) -> int:
    """Fork workers until the supervisor is gone; returns the exit code."""
    began = time.monotonic()
    reason = _import_everything() or _why_not_forkable()
    if reason is not None:
        print(f"workers can't be forked from a warm parent here: {reason}", file=sys.stderr)
        return EXIT_CANT_BE_WARM
    gc.collect()
    gc.freeze()  # or the first collection in a worker would copy every page that holds an object
    resident = psutil.Process().memory_info().rss
    _answer(orders, {"ready_after_s": time.monotonic() - began, "memory_bytes": resident})
    while True:
        message, files, _, _ = socket.recv_fds(orders, LONGEST_ORDER_BYTES, 1)
        if not message:
            return 0
        _answer(orders, _fork(json.loads(message), files[0], orders))
        os.close(files[0])


def _import_everything() -> str | None:
    """The imports of a worker. Returns why that is impossible, or None."""
    import cli.commands.worker  # noqa: F401
    import worker.main  # noqa: F401
    from storage.catalog import load_catalog
    from storage.s3.bucket import read_service_description
    from worker.engine.loading.import_ahead import import_for
    from worker.settings import WorkerSettings

    read_service_description()
    try:
        import_for(load_catalog(WorkerSettings().models).models.values())
    except (ImportError, OSError) as error:  # a worker fails for the same reason, and says it to those who wait
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def _why_not_forkable() -> str | None:
    """A child has only the thread that forked it, and can't use a GPU that its parent has opened."""
    if devices := open_devices():
        return f"the imports opened {', '.join(devices)}"
    if threading.active_count() > 1:
        return f"threads run: {', '.join(thread.name for thread in threading.enumerate())}"
    if len(names := native_threads()) > 1:
        return f"the imports started native threads: {', '.join(names)}"
    return None


def _fork(order: dict[str, Any], output: int, orders: socket.socket) -> dict[str, Any]:
    """Fork a process that forks the worker and ends: so the kernel gives the worker to the supervisor."""
    if time.monotonic() > order["by"]:  # this process was frozen: the supervisor has started another worker
        return {"error": "it came too late"}
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        between = os.fork()
    except OSError as error:  # no memory, or too many processes
        os.close(reading)
        os.close(writing)
        return {"error": f"it can't be forked: {error.strerror}"}
    if between == 0:
        _fork_worker(order, output, writing, orders)
    os.close(writing)
    with open(reading, "rb") as told:
        pid = told.read()
    os.waitpid(between, 0)
    return {"pid": int(pid)} if pid else {"error": "it can't be forked: no memory, or too many processes"}


def _fork_worker(order: dict[str, Any], output: int, writing: int, orders: socket.socket) -> NoReturn:
    try:
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            _become_worker(order, output, orders)
        os.write(writing, str(pid).encode())
        os._exit(0)
    except OSError:
        os._exit(1)


def _become_worker(order: dict[str, Any], output: int, orders: socket.socket) -> NoReturn:
    """Run the command `darkroom worker …` in this process, and end it."""
    code = 1
    try:
        os.setsid()
        orders.detach()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for file, stream in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(file, stream)
        for file in (nothing, output):
            os.close(file)
        set_command_line([sys.executable, sys.argv[0], *order["words"]])
        _wait_for_adoption(order["parent"])
        os.environ.update(order["env"])
        from cli.group import darkroom

        sys.argv = [sys.argv[0], *order["words"]]
        darkroom(order["words"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait_for_adoption(supervisor: int) -> None:
    """Wait until the supervisor is our parent. Exit if it has died, because no process would supervise us."""
    give_up_at = time.monotonic() + ADOPTED_WITHIN_S
    while os.getppid() != supervisor:
        if time.monotonic() > give_up_at:
            raise SystemExit(0)
        time.sleep(0.0005)
    end_with_parent(signal.SIGTERM)
    output = select.poll()
    output.register(1, 0)  # poll always reports POLLERR, which means that the read end is closed
    if os.getppid() != supervisor or output.poll(0):  # it died just before that, or has stopped waiting for us
        raise SystemExit(0)


def _answer(orders: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone: the next read says so
        orders.send(json.dumps(answer).encode())
