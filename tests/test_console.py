"""The bars that a person watches: how far, how fast, what it cost so far, and how long still."""

import io

from rich.console import Console

from flows.console import Bars
from monoglot.generation.replies import Usage
from monoglot.generation.spending import Budget
from tasks.workplace import Job


def watched(tell):
    """What a terminal shows while a stage reports its progress."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, legacy_windows=False)
    with Bars(console) as bars:
        tell(bars.of("translate hi-Latn"))
        bars._progress.refresh()
        return screen.getvalue()


def test_a_purchase_shows_rows_rate_spend_and_time_left():
    budget = Budget()
    budget.usage = Usage(3, 900, 300, usd=0.0123)

    def tell(bar):
        job = Job(None, None, None, None, on_progress=bar, budget=budget)
        for done in (0, 10, 20):
            job.on_purchase(done, 100)

    shown = watched(tell)
    for part in ("translate hi-Latn", "20/100", "/s", "$0.0123", "0:00:0"):
        assert part in shown


def test_a_bar_without_spend_has_no_note_and_goes_when_done():
    def tell(bar):
        bar(1, 2)
        bar(2, 2)

    shown = watched(tell)
    assert "$" not in shown
    assert "2/2" not in shown


def test_what_a_model_of_unknown_price_took_is_told_in_tokens():
    budget = Budget()
    assert budget.told() == ""
    budget.usage = Usage(3, 9000, 300)
    assert budget.told() == "9,300 tokens"
