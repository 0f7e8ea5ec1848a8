"""Who is buying: a name that tells buyers apart, and whether its bearer still lives."""

import os
import socket
import uuid
from pathlib import Path


def new_owner() -> str:
    """A name for one buyer: machine, process, and a token that tells buyers in a process apart."""
    return f"{_machine()}|{os.getpid()}|{uuid.uuid4().hex}"


def _machine() -> str:
    """The host, and on Linux the process namespace: two containers may share a host name."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def is_dead(owner: str) -> bool:
    """Whether an owner is a process of this machine that is gone; unknown counts as alive.

    Owners elsewhere, and processes whose number was given out again, end with their lease.
    """
    machine, process, _ = owner.rsplit("|", 2)
    if machine != _machine():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
