"""What `monoglot quality` prints: kept and dropped per gate and language, with examples."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from flows.show import say, table
from monoglot.yields import GateYield, Yield

_NOTHING = (
    "The last run had no queries checked: none were written by an LLM. "
    "`monoglot quality --labelled FILE` measures the gates on a file."
)
_TITLES = {"quality": "form", "consistency": "label consistency", "round_trip": "round trip"}


def show_yields(console: Console, found: Sequence[Yield]) -> None:
    """A table of kept and dropped, then each gate with the first texts it dropped."""
    if not found:
        say(console, _NOTHING)
        return
    is_marked = any(each.bad is not None for each in found)
    heads = ("language", "queries", "gates", "checked", "kept", "dropped", "share dropped")
    more = ("bad kept", "good dropped") if is_marked else ()
    rows = [_row(each, is_marked=is_marked) for each in found]
    console.print(table((*heads, *more), rows, numbers=4 + len(more)))
    for each in found:
        for gate in each.gates:
            say(console, f"{each.language} {gate.rule}: {_told(gate)}", "bold")
            for example in gate.examples:
                say(console, f"  {example.text}")
                say(console, f"      {example.reason}", "dim")


def yields_as_json(found: Sequence[Yield]) -> dict[str, Any]:
    """The same for a program."""
    return {
        "checks": [
            {
                **dataclasses.asdict(each),
                "dropped": each.dropped,
                "gates": [
                    {**dataclasses.asdict(gate), "precision": gate.precision} for gate in each.gates
                ],
            }
            for each in found
        ]
    }


def _row(each: Yield, *, is_marked: bool) -> tuple[object, ...]:
    share = f"{each.dropped / each.checked:.1%}" if each.checked else "-"
    row = (
        each.language,
        each.origin,
        _TITLES.get(each.stage, each.stage),
        each.checked,
        each.kept,
        each.dropped,
        share,
    )
    if not is_marked:
        return row
    return (*row, _of(each.bad_kept, each.bad), _of(_good_dropped(each), each.good))


def _good_dropped(each: Yield) -> int:
    return sum(gate.good or 0 for gate in each.gates)


def _of(part: int | None, whole: int | None) -> str:
    return "-" if part is None or not whole else f"{part:,} of {whole:,}"


def _told(gate: GateYield) -> str:
    precision = "" if gate.precision is None else f", {gate.precision:.0%} of the marked ones bad"
    return f"{gate.dropped:,} dropped{precision}"
