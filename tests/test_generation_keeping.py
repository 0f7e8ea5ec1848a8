"""Replies on their way into the ledger: together where they come together, and none forgotten."""

import asyncio
import contextlib

from monoglot.errors import StoreError
from monoglot.generation.buying import _Keeper
from monoglot.generation.ledger import Bought
from monoglot.generation.replies import Reply


def bought(name, sent_as="r"):
    return Bought(Reply(f"body of {name}"), {name: sent_as})


def kept(ledger, *names):
    return [entry.body for entry in ledger.found(names)]


def test_replies_that_come_while_one_is_written_are_written_together(ledger):
    commits = []
    ledger._database.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else 0)
    names = [f"k{n:02}" for n in range(20)]

    async def run():
        keeper = _Keeper(ledger)
        first = asyncio.create_task(keeper.keep(bought(names[0])))
        await asyncio.sleep(0)  # it is being written now
        await asyncio.gather(first, *(keeper.keep(bought(name)) for name in names[1:]))

    asyncio.run(run())
    assert kept(ledger, *names) == [f"body of {name}" for name in names]
    assert len(commits) == 2


def test_a_reply_is_kept_although_who_waited_for_it_was_cancelled(ledger):
    async def run():
        keeper = _Keeper(ledger)
        waiting = [asyncio.create_task(keeper.keep(bought(name))) for name in "abc"]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting)
        await keeper.finish()

    asyncio.run(run())
    assert kept(ledger, "a", "b", "c") == ["body of a", "body of b", "body of c"]


def test_only_who_waits_for_an_unwritable_reply_hears_of_it(ledger):
    async def run():
        keeper = _Keeper(ledger)
        each = [keeper.keep(bought("a")), keeper.keep(bought("b", None)), keeper.keep(bought("c"))]
        return await asyncio.gather(*each, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(run())] == [type(None), StoreError, type(None)]
    assert kept(ledger, "a", "b", "c") == ["body of a", "body of c"]
