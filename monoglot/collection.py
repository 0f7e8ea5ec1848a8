"""Pausing Python's garbage collection while very many objects are made that stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection inside the block, where it was on.

    It looks through all objects again and again for cycles that could be freed. Where there are a
    million, and all of them stay, that is a third of the time in which they are made.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
