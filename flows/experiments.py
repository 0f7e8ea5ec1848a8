"""What `monoglot ablate` and `monoglot tune` print."""

from pathlib import Path

from rich.console import Console

from flows.show import say, table, warn
from monoglot.ablation import AblationReport
from monoglot.learning.comparison import Line
from monoglot.tuning import TuningReport
from monoglot.wording import between, duration, signed

_METRICS = ("hit@1", "hit@3", "mrr")


def show_ablation(console: Console, report: AblationReport, workshop: Path) -> None:
    """The table, what it means, and what is missing."""
    heads = ("cell", "seeds", *_METRICS, "gain", "95 % interval", "p (Holm)", "training")
    console.print(table(heads, map(_row, report.lines), numbers=len(heads) - 1))
    say(console, report.verdict, "bold")
    say(console, report.confirmed)
    warn(
        console,
        (
            f"{line.cell}: seeds {', '.join(map(str, line.missing))} are not measured"
            + "".join(f" (seed {seed} failed: {why})" for seed, why in line.failed.items())
            for line in report.lines
            if line.missing
        ),
    )
    say(console, f"Report: {workshop / report.path}")


def show_tuning(
    console: Console, report: TuningReport, workshop: Path, backup: Path | None
) -> None:
    """What was tried, whether it is better, and what was written."""
    heads = ("rung", "score", "changes")
    rows = [(it.rung, it.score, str(it.changes)) for it in report.best_tried]
    console.print(table(heads, rows))
    show_ablation(console, report.ablation, workshop)
    say(console, report.reason, "bold")
    for section, settings in report.changes.items():
        say(console, f"  {section}: {dict(settings)}")
    if backup is not None:
        say(console, f"Written into the config; as it was: {backup}")


def _row(line: Line) -> tuple[object, ...]:
    gain, seconds = line.gain, line.cost.seconds if line.cost else None
    return (
        line.cell,
        len(line.seeds),
        *(line.values.get(metric) for metric in _METRICS),
        None if gain is None else signed(gain.mean) + (" *" if line.is_real else ""),
        None if gain is None else between(gain.low, gain.high),
        line.p,
        None if seconds is None else duration(seconds),
    )
