"""`make serve`: a Prefect server with its UI, the deployments of one config, and a worker.

A module rather than a shell script, since children must be waited for, told apart and ended. The
server is bound to loopback and keeps its SQLite database in a folder of the checkout. A server that
answers already is used as it is, and a worker that runs already is left alone: a second `make
serve` only deploys what changed. Where `PREFECT_API_URL` names a server elsewhere, none is started
here, whether that one answers or not: its workers and their runs may be on other machines. Children
are in sessions of their own: Ctrl-C is for this process, which ends the worker before the server
that it reports to.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import yaml

from flows.server import PRIVATE, TUNING, trouble_at
from monoglot.config_file import load_config
from monoglot.errors import MonoglotError, RunError

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "monoglot/sample/monoglot.yaml"
DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")
POOL = "monoglot"
_START_S = 300.0
_STOP_S = 30.0
_LOOPBACK = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; the exit code of the command line."""
    parser = argparse.ArgumentParser(prog="make serve", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, default=SAMPLE, help="the monoglot.yaml to run")
    parser.add_argument("--port", type=int, default=4200, help="of the UI and the API")
    parser.add_argument("--home", type=Path, default=ROOT / ".prefect", help="database and logs")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had the former ignored
        signal.signal(number, signal.default_int_handler)
    try:
        serve(given.config, given.port, given.home)
    except MonoglotError as error:
        _say(f"monoglot: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        with contextlib.suppress(BrokenPipeError):  # who started this may have gone before
            _say("stopped")
    return 0


def serve(config: Path, port: int, home: Path) -> None:
    """Start what is not there yet, deploy, and stay until something of it ends.

    Args:
        config: the `monoglot.yaml` that the deployments run by default.
        port: of the server.
        home: folder of the server's database, and of the logs.

    Raises:
        ConfigError: the config cannot be used; nothing was started.
        RunError: server or worker ended, or did not start (names the log); or the server that is
            named in the environment does not answer, or refuses.
    """
    load_config(config)
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    environment = environment_of(port, home)
    url = environment["PREFECT_API_URL"].rstrip("/")
    with contextlib.ExitStack() as running:
        server = None
        if not _answers(url, port):
            command = ["server", "start", "--host", _LOOPBACK, "--port", str(port)]
            server = running.enter_context(_child("server", command, home, environment))
            _wait_for(url, server, home / "server.log")
        _ensure_pool(url, environment)
        _prefect(
            ["deploy", "--prefect-file", str(_deployments(config, home)), "--all"], environment
        )
        with (home / "worker.lock").open("a") as lock:
            if not _is_free(lock.fileno()):
                _say(f"{_ui(url)}: a worker is running already; the deployments are up to date")
                if server is None:
                    return
                worker = None
            else:
                if server is not None:  # ours, on loopback: its workers were on this machine
                    _close_dead_runs(environment)
                command = ["worker", "start", "--pool", POOL, "--name", f"{POOL}-{port}"]
                worker = running.enter_context(
                    _child("worker", command, home, environment, keep=lock.fileno())
                )
        _say(f"{_ui(url)}: deployments of {config}; logs in {home}; Ctrl-C ends all")
        _stay({"server": server, "worker": worker}, home)


def environment_of(port: int, home: Path) -> dict[str, str]:
    """What server, worker and runs are told; what the operator has set himself stays.

    With `PREFECT_API_URL` set, that server is used.
    """
    settings = {
        **TUNING,
        **PRIVATE,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_API_HOST": _LOOPBACK,
        # The flag alone leaves the UI asking port 4200.
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://{_LOOPBACK}:{port}/api",
    }
    return {**settings, **os.environ}


def _ensure_pool(url: str, environment: dict[str, str]) -> None:
    """Have the server make the work pool, unless it has it.

    Raises:
        RunError: it refuses; with its reason.
    """
    done = _python(["deployments.pool", POOL], environment)
    if done.returncode:
        raise RunError(f"{url}: no work pool {POOL} could be had: {_last_line(done)}")


def _close_dead_runs(environment: dict[str, str]) -> None:
    """Free the slots of runs that were killed together with their worker; without, they wait."""
    done = _python(["deployments.dead_runs", POOL], environment)
    for line in done.stdout.splitlines():
        _say(line)
    if done.returncode:
        _say(f"whether a run died with its worker could not be found out: {_last_line(done)}")


def _deployments(config: Path, home: Path) -> Path:
    """`prefect.yaml` for this config, with the checkout as the folder that runs start in."""
    file: dict[str, Any] = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))
    step = "prefect.deployments.steps.set_working_directory"
    file["pull"] = [{step: {"directory": str(ROOT)}}]
    for deployment in file["deployments"]:
        for it in (deployment, *deployment.get("schedules", ()), *deployment.get("triggers", ())):
            if "request" in it.get("parameters", {}):
                it["parameters"]["request"]["config_file"] = str(config.resolve())
    path = home / "prefect.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")
    return path


def _prefect(command: Sequence[str], environment: dict[str, str]) -> None:
    """One command of Prefect's, silent unless it fails.

    Raises:
        RunError: it failed; with what it said.
    """
    done = _python(["prefect", "--no-prompt", *command], environment)
    if done.returncode:
        raise RunError(f"`prefect {' '.join(command)}` failed:\n{done.stdout}{done.stderr}")


def _python(module: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a module to its end: Prefect's client is big, and what starts the rest stays for days."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["it was killed"])[-1]


@contextlib.contextmanager
def _child(
    name: str, command: Sequence[str], home: Path, environment: dict[str, str], keep: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Prefect's with a log of its own; asked to stop, then made to, at the end.

    Args:
        name: of its log.
        command: what follows `prefect`.
        home: folder of the log.
        environment: of the process.
        keep: a descriptor that it inherits: its lock is held for as long as the process lives,
            this one's kill included.
    """
    with (home / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[keep] if keep >= 0 else [],
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < until:
        if trouble_at(url) is None:
            return
        time.sleep(0.2)
    raise RunError(
        f"Prefect's server did not start; its log is {log}. Where the port is taken: "
        "`make serve PORT=4300`."
    )


def _answers(url: str, port: int) -> bool:
    """Whether the server is up; False: it is ours to start.

    Raises:
        RunError: neither. It is another's, or something else is at our port.
    """
    trouble = trouble_at(url)
    if trouble is None:
        return True
    if url not in {f"http://{host}:{port}/api" for host in (_LOOPBACK, "localhost")}:
        raise RunError(
            f"PREFECT_API_URL={url}: the Prefect server does not answer ({trouble}). Start it, or "
            f"unset the variable: one is then started here, at port {port}."
        )
    if isinstance(trouble, HTTPError):
        raise RunError(f"{url}: {trouble}. Is it a Prefect server? `make serve PORT=4300`.")
    return False


def _is_free(descriptor: int) -> bool:
    """Take the worker's lock, unless a worker has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stay(children: dict[str, subprocess.Popen[bytes] | None], home: Path) -> None:
    """Wait for a signal, or for a child that ends by itself, which none should."""
    while True:
        for name, child in children.items():
            if child is not None and child.poll() is not None:
                raise RunError(f"the {name} ended ({child.returncode}); log: {home / name}.log")
        time.sleep(0.5)


def _ui(url: str) -> str:
    return url.removesuffix("/api")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
