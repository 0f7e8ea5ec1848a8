"""Answers of batches that earlier runs submitted, whoever needs them now."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from monoglot.generation.batch_records import BatchRecords
from monoglot.generation.batches import take_in
from monoglot.generation.ledger import Ledger
from monoglot.generation.shared_ledger import ledger_file, open_ledger
from monoglot.wording import dollars
from tasks.workplace import Workplace


def take_in_batches(place: Workplace) -> None:
    """Put into the ledger what has come back since the last run; nothing where nothing is out.

    Before the run looks whether there is anything to do: an answer is taken in although the row
    it belongs to was edited meanwhile, and may come back.
    """
    ledger = Ledger.existing(ledger_file(place.store))
    if ledger is None or not place.settings.has_endpoint:
        return
    with ledger:
        if BatchRecords(ledger).living():
            _take_in(place)


@task(name="batches", task_run_name="take in batches", tags=["llm"], cache_policy=NO_CACHE)
def _take_in(place: Workplace) -> None:
    with open_ledger(place.store) as ledger:
        before = BatchRecords(ledger).outstanding()
        taken = take_in(place.settings, ledger, place.budget.config)
        after = BatchRecords(ledger).outstanding()
    logger = get_run_logger()
    for note in taken.notes:
        logger.warning(note, extra={"shown": True})
    came = before.rows - after.rows
    price = "" if taken.usage.usd is None else f" for {dollars(taken.usage.usd)}"
    told = f"batches: {came:,} rows came back{price}; " + (after.line if after else "none is out")
    logger.info(told, extra={"shown": True})
