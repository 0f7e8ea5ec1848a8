"""Prefect's temporary server: started for one command, gone with it.

With `PREFECT_API_URL` set, flows talk to that server and nothing here happens. Otherwise a server
is started on a free loopback port, with its home in the store, so that the user's own `~/.prefect`
is left alone and the history of a store's runs stays with the store.

Why not Prefect's ephemeral mode: it kills its server with the queues full, so that the history of
the run is lost, prints the server's tracebacks to the terminal, picks a port by chance in a range
others use, and leaves the server running when the command is killed. Why not `prefect server
start`: it starts the scheduler, the UI and a dozen services that one run does not need, and is
left running as well. Here a child process serves Prefect's own application in the mode made for
one run. Measured on two cores: ready after 4 s (8 s the first time, when its database is made),
against 5 s and 7.5 s of `prefect server start`; and most of it passes while this process imports
what it needs itself.

The child inherits the listening socket, so no port is guessed, and a pipe from its parent: when
the parent ends in any way, kill -9 included, the pipe closes and the child stops.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from monoglot.errors import RunError

_START_S = 90.0
_STOP_S = 10.0
_LOGINS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)
_REPLACEMENTS = 3  # what kills more servers than that in one run is not chance
_RECORDER = "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_"
TUNING = {
    # The recorder writes one task run at a time by default: four times the cost per task.
    f"{_RECORDER}BATCH_SIZE": "100",
    f"{_RECORDER}READ_BATCH_SIZE": "100",
    f"{_RECORDER}FLUSH_INTERVAL": "1",
    # Slots in memory are held for ever when a server is killed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
}
_BARE = {
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}
PRIVATE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}


@contextlib.contextmanager
def prefect_server(home: Path, meanwhile: Callable[[], None] | None = None) -> Iterator[str]:
    """Run the block against a Prefect server: the user's own, or a temporary one in `home`.

    Args:
        home: folder of the temporary server: its database, and its log `server.log`.
        meanwhile: called while the server starts, which takes seconds: imports, for instance.

    Yields:
        The URL of the server's API.

    Raises:
        RunError: the user's own server does not answer, or the temporary one does not start.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        trouble = trouble_at(given)
        if trouble is not None:
            raise RunError(
                f"PREFECT_API_URL={given}: the Prefect server does not answer ({trouble}). Start "
                "it, or unset the variable for a temporary server."
            )
        yield given
        return
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    server = _Server(home, log)
    with contextlib.closing(server):
        settings = {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(home), **PRIVATE}
        with _environment(settings), _prefect_settings(server.url, home):
            if meanwhile is not None:
                meanwhile()
            _wait_until_healthy(server, log)
            try:
                yield server.url
            finally:
                _drain()


def trouble_at(url: str) -> Exception | None:
    """What keeps Prefect's API at a URL from being used, asked once; None: it answers.

    By urllib, since Prefect's client takes seconds to import, and minutes to give up. A proxy that
    asks for a login counts as an answer: the client knows how to log in. An `HTTPError` tells that
    something else answers there, or a proxy whose server is down.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return None if error.code in _LOGINS else error
    except (OSError, ValueError, HTTPException) as error:
        return error


class _Server:
    """The server's process on its socket; where it is killed, another takes its place there.

    This process keeps the socket open as well: requests wait in its queue for the few seconds that
    the next server takes to start, and Prefect's client sends again what was cut off. A server that
    ends of itself would do so again: it is not replaced, and requests are refused from then on.
    """

    def __init__(self, home: Path, log: Path) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        self._environment = {**inherited, **TUNING, **_BARE, **PRIVATE, "PREFECT_HOME": str(home)}
        self._log = log
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self._is_over = False
        self._changing = threading.Lock()
        self._child = self._start("wb")
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _start(self, mode: str) -> subprocess.Popen[bytes]:
        socket_number = self._listener.fileno()
        with self._log.open(mode) as stream:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "flows.server", str(socket_number)],
                pass_fds=[socket_number],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us, who then tell it what came of it
                stdout=stream,
                stderr=stream,
                env=self._environment,
            )

    def _keep(self) -> None:
        with self._listener:
            for _ in range(_REPLACEMENTS):
                was_killed = self._child.wait() in _KILLED
                with self._changing:
                    if self._is_over or not was_killed:
                        return
                    _close_pipe(self._child)
                    self._child = self._start("ab")
            self._child.wait()

    def is_kept(self) -> bool:
        """Whether a process serves, or is about to."""
        return self._keeper.is_alive()

    def close(self) -> None:
        """Ask the process to stop, and then make it."""
        with self._changing:
            self._is_over = True
            child = self._child
        _close_pipe(child)
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
        self._keeper.join()


def _close_pipe(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()


def _wait_until_healthy(server: _Server, log: Path) -> None:
    """Return when the server answers; requests wait in the socket's queue until it does."""
    until = time.monotonic() + _START_S
    while server.is_kept() and time.monotonic() < until:
        if trouble_at(server.url) is None:
            return
        time.sleep(0.1)
    raise RunError(
        f"Prefect's temporary server did not start; its log is {log}. Check that the package "
        "versions are those of constraints.txt (`monoglot doctor`), or set PREFECT_API_URL to a "
        "running server."
    )


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Environment variables for the block, for processes it starts and a later Prefect import."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _prefect_settings(url: str, home: Path) -> Iterator[None]:
    """Prefect's settings in this process, whether it was imported before or is now.

    Heartbeats are off, which no environment variable can say: a flow waits up to a second for its
    heartbeat thread to end, and nobody watches for heartbeats of a run started by hand.
    """
    from prefect import settings

    updates: dict[Any, Any] = {
        settings.PREFECT_API_URL: url,
        settings.PREFECT_HOME: home,
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with settings.temporary_settings(updates):
        yield


def _drain() -> None:
    """Send what Prefect's background threads still hold, while there is a server to take it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=_STOP_S, at_exit=False)
    APILogWorker.drain_all(timeout=_STOP_S, at_exit=False)


def _serve(descriptor: int) -> None:
    """Serve Prefect's API on an inherited socket until stdin closes (the child's side)."""
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(
        create_app(ephemeral=True, final=True),
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True
        time.sleep(_STOP_S)
        os._exit(1)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])
    # All is written by now; to take the interpreter down by its rules takes over a second.
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
