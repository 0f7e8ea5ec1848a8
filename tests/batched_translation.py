"""Runs of the translation whose requests go out as batches, and what is out after them."""

import pytest
from llm_batches import BatchFault
from llm_server import Fault, Request, translation_of
from parcels import CONFIG, HINGLISH

from monoglot.errors import BatchPendingError
from monoglot.generation import batches
from monoglot.generation.spending import Budget
from monoglot.generation.translation import pending, translate
from monoglot.generation_config import SpendingConfig


def run(rows, server, ledger, *, batch=True, language=HINGLISH, spending=None, **changes):
    settings = server.settings(**{"llm_attempts": 2, **changes})
    return translate(
        rows,
        language,
        CONFIG,
        kb_language="en",
        settings=settings,
        ledger=ledger,
        budget=Budget(SpendingConfig(batch=batch, **(spending or {}))),
    )


def submit(rows, server, ledger, **changes):
    """A run that ends waiting; what it says is out."""
    with pytest.raises(BatchPendingError) as ended:
        run(rows, server, ledger, **changes)
    return ended.value.out


def take_in(server, ledger, **changes):
    settings = server.settings(**{"llm_attempts": 2, **changes})
    return list(batches.take_in(settings, ledger, SpendingConfig()).notes)


def plan(rows, server, ledger):
    return pending(
        rows, HINGLISH, CONFIG, kb_language="en", settings=server.settings(), ledger=ledger
    )


def right(rows):
    return [translation_of(text, "hi-Latn") for text in rows["query"]]


def is_everything_in(ledger):
    """Whether nothing is out or claimed, and no reply is without a row."""
    orphans = ledger.read("SELECT 1 FROM replies WHERE id NOT IN (SELECT reply FROM rows)")
    tables = ("batches", "batch_rows", "claims")
    return not orphans and not any(ledger.read(f"SELECT 1 FROM {table}") for table in tables)


def text_of(number):
    return f"where is my parcel number {number} from the shop"


def rows_of(line):
    """The rows a line of a batch asks for."""
    return Request(line["body"], "", 0).rows


def on(number, fault):
    """A fault of each request that asks for a row."""
    return lambda texts: fault if text_of(number) in texts else None


def keys_of(rows):
    from monoglot.generation.translation import _asks_of, _sent_for

    ordered = rows.sort("row_id")
    sent = _sent_for(ordered["query"], None)
    keyed, asks = _asks_of(ordered, sent, HINGLISH, CONFIG, CONFIG.model, kb_language="en")
    return keyed["_key"].to_list(), asks


# Fault of the request with row 7 -> rows submitted a second time, and how they were packed then.
LINE_FAULTS = {
    "lost": (BatchFault("lost"), [3, 3, 3, 1]),
    "garbled": (BatchFault("garbled"), [3, 3, 3, 1]),
    "server error": (BatchFault("error", 500), [3, 3, 3, 1]),
    "bad request": (BatchFault("error", 400), [3, 3, 3, 1]),
    "content filter": (BatchFault("error", 400, "content_filter"), [3, 3, 3, 1]),
    "refused": (BatchFault("refused", fault=Fault.refused()), [3, 3, 3, 1]),
    "cut off": (BatchFault("refused", fault=Fault.says("")), [3, 3, 3, 1]),
    "not worked on": (BatchFault("expired"), [10]),
    "rows lost": (BatchFault("refused", fault=Fault.lose(0, 1)), [2]),
    "out of order": (BatchFault("refused", fault=Fault.reorder()), []),
    "twice": (BatchFault("twice"), []),
}
