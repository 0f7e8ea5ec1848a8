"""The line that `benchmarks.chaos` disturbs: its files, the processes that run it, their server.

Processes are found by the kernel's own record of them (`/proc`), so that Linux is needed.
"""

import contextlib
import ctypes
import http
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.provenance import ROOT
from monoglot.errors import StoreError
from monoglot.serving.releases import Releases
from monoglot.store import Store

_BUSY_S = 60.0
PATIENCE_S = 300.0  # nothing takes this long; what does is a failure, and is told as one
_RUN = "from flows.cli import main; main()"
# Root's Python may be out of this user's reach: what a run needs is loaded before.
_UNPRIVILEGED = """
import os
import flows.cli, flows.show, monoglot.planning
from flows import running
running._load()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
_DISK_MB, _BALLAST = 256, "ballast"
_MS_NOSUID_NODEV = 6


class Line:
    """A small line on disk with its endpoint, and processes that run it."""

    def __init__(self, folder: Path, store: Path, environment: Mapping[str, str]) -> None:
        self.config = folder / "monoglot.yaml"
        self.store = store
        self._folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            **environment,
            "PYTHONPATH": str(ROOT),
        }

    def edit(self, number: int) -> str:
        """Reword one row; the new text, which the LLM has not translated yet."""
        path, text = self._folder / "kb.csv", f"please send me invoice copy {number} of my order"
        rows = pl.read_csv(path)
        at = pl.int_range(pl.len()) == rows.height - 1
        rows.with_columns(query=pl.when(at).then(pl.lit(text)).otherwise("query")).write_csv(path)
        return text

    def start(
        self, before: str = "", environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """`monoglot run` in a process of its own, after some code, with a server of its own."""
        command = [sys.executable, "-c", f"{before}\n{_RUN}", "run", "--force"]
        return subprocess.Popen(  # noqa: S603
            [*command, "-c", str(self.config), "--json"],
            env=self.environment | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_unprivileged(self) -> "subprocess.Popen[str]":
        """The same by a user who may only read; the benchmark must run as root."""
        return self.start(_UNPRIVILEGED)

    def answers(self, text: str) -> bool:
        """Whether the release in production holds a row."""
        current = Releases(store := Store.existing(str(self.store))).current()
        try:
            return current is not None and text in store.table(current.knowledge_base)["query"]
        except StoreError:  # the release is another one by now
            return False


def outcome_of(process: "subprocess.Popen[str]") -> str:
    """`exit 0`, or `exit 1: <its last line>`."""
    _, told = process.communicate()
    last = told.strip().splitlines()[-1:] or [""]
    return f"exit {process.returncode}" + (f": {last[0][:200]}" if process.returncode else "")


def own_server_of(parent: int) -> int | None:
    """The temporary Prefect server among a process's children."""
    return next((pid for pid in _children(parent) if b"flows.server" in _command(pid)), None)


class Clock:
    """A process's wall clock, which jumps when it is told to; see `jumping_clock.c`."""

    can_be_had = shutil.which("cc") is not None

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_text("0")
        library = folder / "jumping_clock.so"
        source = Path(__file__).with_name("jumping_clock.c")
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(command, check=True)  # noqa: S603
        self.environment = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(self._file)}

    def jump(self, days: int) -> None:
        """Move the clock of whoever has this environment, now."""
        self._file.write_text(str(days))


class Disk:
    """A small file system in memory for the store, which can be filled; only root can make one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)

    @classmethod
    def make(cls, folder: Path) -> "Disk | None":
        """None where this process may not mount."""
        disk = cls(folder)
        folder.mkdir()
        options = f"size={_DISK_MB}m,mode=755".encode()
        place = str(folder).encode()
        failed = disk._libc.mount(b"tmpfs", place, b"tmpfs", _MS_NOSUID_NODEV, options)
        return None if failed else disk

    @contextlib.contextmanager
    def full(self, left: int) -> Iterator[None]:
        """Leave so many bytes free, for a while."""
        ballast = self._folder / _BALLAST
        try:
            with ballast.open("wb") as stream:
                free = os.statvfs(self._folder)
                with contextlib.suppress(OSError):
                    os.posix_fallocate(
                        stream.fileno(), 0, max(1, free.f_bavail * free.f_frsize - left)
                    )
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Lazily: a reader may still have files of it mapped."""
        self._libc.umount2(str(self._folder).encode(), 2)


class Served:
    """`make serve`, as a supervisor keeps it: started again when it has ended."""

    def __init__(self, line: Line, home: Path, port: int) -> None:
        self._line, self._home, self._port = line, home, port
        self._url = f"http://127.0.0.1:{port}/api"
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = -1

    def __enter__(self) -> "Served":
        self.keep()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def keep(self) -> None:
        """Start it where it is not running."""
        if self._process is None or self._process.poll() is not None:
            self.restarts += 1
            self._process = subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", "deployments.serve", "--config", self._line.config),
                    *("--home", self._home, "--port", str(self._port)),
                ],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                env=self._line.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            )
            _until(self._is_up)

    def again(self) -> None:
        """Start it again once it has ended, as it does when a part of it was killed."""
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        self.keep()

    def trigger(self, deployment: str) -> str:
        """Press the button; the run's id."""
        [found] = self._post("/deployments/filter", deployments={"name": {"any_": [deployment]}})
        request = {"config_file": str(self._line.config), "force": deployment == "retrain"}
        path = f"/deployments/{found['id']}/create_flow_run"
        made: str = self._post(path, parameters={"request": request})["id"]
        return made

    def wait(self, run: str) -> str:
        """Until a run has ended; its state and message."""
        _until(lambda: self.keep() or self._state(run)["type"] in _ENDED)
        state = self._state(run)
        said = " ".join((state["message"] or "").split())
        return state["name"] if state["type"] == "COMPLETED" else f"{state['name']}: {said[:200]}"

    def settle(self) -> None:
        """Wait until no run is under way, and none waits for a slot."""
        waiting = {"state": {"name": {"any_": ["AwaitingConcurrencySlot", "Late"]}}}
        self.keep()
        _until(
            lambda: self.flow() is None and not self._post("/flow_runs/filter", flow_runs=waiting)
        )

    def open_runs(self) -> int:
        """Runs that the server takes for running: once all have ended, those nobody closed."""
        running = {"state": {"type": {"any_": ["RUNNING"]}}}
        return len(self._post("/flow_runs/filter", flow_runs=running))

    def server(self) -> int | None:
        """Process of the server."""
        return self._process_with("prefect", "server")

    def worker(self) -> int | None:
        """Process of the worker."""
        return self._process_with("prefect", "worker")

    def flow(self) -> int | None:
        """Process of a flow that the worker runs."""
        ours = f"PREFECT_HOME={self._home}".encode()
        for pid in _processes():
            with contextlib.suppress(OSError):
                told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if ours in told and any(it.startswith(b"PREFECT__FLOW_RUN_ID=") for it in told):
                    return pid
        return None

    def _process_with(self, *words: str) -> int | None:
        assert self._process is not None
        wanted = [word.encode() for word in words]
        for pid in _children(self._process.pid):
            command = _command(pid).split(b"\0")
            if all(word in command for word in wanted):
                return pid
        return None

    def _is_up(self) -> bool:
        try:
            return self.worker() is not None and bool(self._post("/deployments/filter"))
        except OSError:
            return False

    def _state(self, run: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self._url}/flow_runs/{run}", timeout=30) as reply:  # noqa: S310
                found: dict[str, Any] = json.load(reply)["state"]
                return found
        except OSError:  # the server is being killed, or started
            return {"type": "UNKNOWN", "name": "unknown", "message": None}

    def _post(self, path: str, **body: Any) -> Any:
        """Ask the server; a busy one says 503, which Prefect's own client tries again as well."""
        asked = urllib.request.Request(  # noqa: S310
            self._url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        end = time.monotonic() + _BUSY_S
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=30) as reply:  # noqa: S310
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code != http.HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > end:
                    raise
                time.sleep(1.0)


_ENDED = frozenset(("COMPLETED", "FAILED", "CRASHED", "CANCELLED"))


def kill(pid: int | None) -> bool:
    """`kill -9`, where the process is still there."""
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _until(there: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > end:
            raise SystemExit(f"waited {PATIENCE_S:.0f} s in vain")
        time.sleep(0.5)


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _children(parent: int) -> list[int]:
    """Processes that any thread of it has started."""
    threads = Path(f"/proc/{parent}/task").glob("*/children")
    try:
        return [int(pid) for listed in threads for pid in listed.read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
