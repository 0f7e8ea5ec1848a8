"""`monoglot notify` and `monoglot watch`: tell a Prefect server that a knowledge base changed.

The event says how much differs from the release in production, and starts the deployment
`on-kb-change`, which looks for itself.
"""

import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from monoglot.config import Config
from monoglot.due import changes_since
from monoglot.errors import ConfigError, InputError, RunError
from monoglot.identity import frame_digest
from monoglot.knowledge.changes import Changes
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.store import Store
from monoglot.watching import Settling, signature
from tasks.request import RunRequest

EVENT = "monoglot.kb.changed"
_AT_MOST_S = 60.0
_ELSEWHERE_S = 10.0  # between two looks at a database or server, at least


def difference(config: Config) -> tuple[Changes, str]:
    """What differs from the release in production, and the digest of the rows as they are.

    Raises:
        DataError: the knowledge base cannot be used.
    """
    rows = load_knowledge_base(config.knowledge_base).rows
    return changes_since(Store.if_any(config.store), rows), frame_digest(rows)


def announce(title: str, changes: Changes) -> dict[str, Any]:
    """Emit the event, and return it as it was sent.

    By HTTP and not by `prefect.events.emit_event`, which hands over to a thread and says nothing
    when no server takes it.

    Raises:
        ConfigError: no server is set.
        RunError: the server does not take it.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError(
            "PREFECT_API_URL is not set: set it to the server that has the deployment "
            "on-kb-change, such as http://127.0.0.1:4200/api. Without a server: `monoglot run`."
        )
    import httpx
    from prefect.client.orchestration import get_client

    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {
            "prefect.resource.id": f"monoglot.kb.{re.sub(r'[^a-zA-Z0-9_-]+', '-', title)}",
            "prefect.resource.name": title,
        },
        "payload": changes.counts,
    }
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event])
    except (httpx.HTTPError, OSError) as error:
        raise RunError(
            f"PREFECT_API_URL={os.environ['PREFECT_API_URL']}: the Prefect server did not take the "
            f"event ({type(error).__name__}: {error}). Start it, or correct the variable."
        ) from error
    return event


def watch(
    request: RunRequest,
    say: Callable[[str], None],
    *,
    every: float,
    quiet: float,
    stop: threading.Event,
) -> None:
    """Announce every change of the knowledge base until told to stop.

    A file is looked at; what lives elsewhere is fetched, at most every ten seconds.

    A file that cannot be used, half-written or wrong, is told of and waited on; an event that the
    server does not take is sent again. What was edited while nobody watched is announced first.

    Args:
        request: names the config.
        say: shows a line.
        every: seconds between two looks at the file.
        quiet: seconds for which the file must have been left alone; a minute of edits without
            such a pause is announced all the same.
        stop: ends it.
    """
    config, _ = request.read()
    path = config.knowledge_base.path
    settling, last, told = Settling(quiet, max(quiet, _AT_MOST_S)), "", ""
    if path is None:  # nothing tells of a change but reading it, which others pay for
        every, quiet = max(every, _ELSEWHERE_S), 0.0
        say(f"reading {config.knowledge_base.shown} every {every:g} s")
    else:
        say(f"watching {path}")
    while not stop.is_set():
        if path is None or settling.is_ready(signature(path), time.monotonic()):
            try:
                wanted = request.read_fetched()[0] if path is None else config
                line, told = _announce_new(wanted, request.title, told)
            except InputError as error:
                line = f"waiting: {error}"
            except RunError as error:
                line = f"trying again: {error}"
                settling.again(time.monotonic())
            if line and line != last:
                say(line)
            last = line
        stop.wait(every)


def _announce_new(config: Config, title: str, told: str) -> tuple[str, str]:
    """Announce rows that nobody was told of; what became of it, in a line, and their digest."""
    changes, rows = difference(config)
    if rows == told:
        return "", rows  # saved anew, or an edit that was taken back
    if not changes.count:
        return "no row differs from the release in production", rows
    announce(title, changes)
    return f"{EVENT}: {changes.line}", rows
