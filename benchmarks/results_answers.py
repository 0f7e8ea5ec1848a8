"""What the grid was measured for: the paper's order and what beats it, peers, learning curves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.grid_cells import DEFAULT, GIVEN, peers_for
from monoglot.comparison_plots import lines
from monoglot.learning.comparison import Line, Measured, compare
from monoglot.plots import standalone
from monoglot.wording import between, signed
from tasks.ablation import mean_curve

_FAR = 0.08  # behind the best: a curve that would press the others together
_EXPLICIT, _IN_BATCH = ", explicit", ", in-batch"
_WHY = {
    "hinglish_top": (
        "Why the classifier ties: it learns from the same rows and translations, with the same "
        "base, and what these hold is where both end. [ceiling.md](ceiling.md) has what was "
        "measured of it.",
        "",
    )
}
# arXiv 2506.02527: its Algorithm 1 over random negatives over the hardest ones.
_PAPER_ORDER = (
    ("algorithm1, explicit", "random, explicit"),
    ("algorithm1, explicit", "weighted, explicit"),
    ("algorithm1, explicit", "hardest, explicit"),
    ("random, explicit", "hardest, explicit"),
)


def answers(dataset: str, asked: Mapping[str, Measured], seeds: Sequence[int]) -> list[str]:
    """Lists of pairs, each with the gain of the first over the second and whether it is real."""
    others = (*GIVEN, *peers_for(dataset), "algorithm1, explicit")
    peers = [(DEFAULT, other) for other in others]
    algorithm1, random = f"algorithm1{_EXPLICIT}", f"random{_IN_BATCH}"

    def family(title: str, reference: str, is_one: Callable[[str], bool]) -> list[str]:
        return _family(title, reference, {n: it for n, it in asked.items() if is_one(n)}, seeds)

    return [
        *_list("The order of the paper", _PAPER_ORDER, asked, seeds),
        *family(
            "Other strategies against Algorithm 1",
            algorithm1,
            lambda name: name.endswith(_EXPLICIT),
        ),
        *family(
            "Strategies where the whole batch is negative, too",
            random,
            lambda name: name.endswith(_IN_BATCH),
        ),
        *family(
            "Algorithm 1 with other numbers of hard negatives (2) and index shares (30 %)",
            algorithm1,
            lambda name: name == algorithm1 or name.startswith(("k = ", "index share ")),
        ),
        *_list("The default recipe against its peers and the paper's", peers, asked, seeds),
        *_WHY.get(dataset, ()),
        *_list(
            "English questions of the tuned model against those of the untuned one",
            [(name, "untuned") for name in (DEFAULT, algorithm1, "classifier")],
            _in_english(asked),
            seeds,
        ),
    ]


def _in_english(asked: Mapping[str, Measured]) -> dict[str, Measured]:
    """The English control as the questions, of all cells that have one."""
    as_asked = pl.lit(value=False).alias("control")
    return {
        name: replace(
            each,
            outcomes={
                seed: it.filter("control").with_columns(as_asked)
                for seed, it in each.outcomes.items()
            },
        )
        for name, each in asked.items()
        if all(it["control"].any() for it in each.outcomes.values())
    }


def _list(
    title: str,
    pairs: Sequence[tuple[str, str]],
    asked: Mapping[str, Measured],
    seeds: Sequence[int],
) -> list[str]:
    """The pairs of which both are measured."""
    told = [
        _pair(name, other, asked, seeds)
        for name, other in pairs
        if name in asked and other in asked
    ]
    return [f"**{title}**, each pair by itself:", "", *told, ""] if told else []


def _pair(name: str, other: str, asked: Mapping[str, Measured], seeds: Sequence[int]) -> str:
    line = compare({other: asked[other], name: asked[name]}, other, seeds, "mrr")[1]
    return _told(line, other)


def _family(
    title: str, reference: str, members: Mapping[str, Measured], seeds: Sequence[int]
) -> list[str]:
    """The members, of which the reference is one, compared with it as a family."""
    if reference not in members or len(members) == 1:
        return []
    lines = compare(members, reference, seeds, "mrr")
    told = [_told(line, reference) for line in lines if line.cell != reference]
    return [f"**{title}**, p adjusted by Holm's procedure:", "", *told, ""]


def _told(line: Line, other: str) -> str:
    if line.gain is None:
        return f"- `{line.cell}`, `{other}`: no seed of both is measured."
    verdict = "a real difference" if line.is_real else "not to be told apart"
    if line.is_of_one_seed:
        verdict = "under one seed, too few to judge by"
    return (
        f"- `{line.cell}` against `{other}`: {signed(line.gain.mean)} MRR "
        f"({between(line.gain.low, line.gain.high)}), {verdict}."
    )


def curves(found: Mapping[str, Mapping[int, Mapping[str, Any]]], folder: Path) -> list[str]:
    """A picture, beside the result files: hit@3 against steps under the paper's objective."""
    series = {}
    for name, by_seed in found.items():
        looks = [pl.DataFrame(it["curve"]) for it in by_seed.values() if it.get("curve")]
        if looks and name.endswith(_EXPLICIT):
            series[name.removesuffix(_EXPLICIT)] = mean_curve(looks)
    if not series:
        return []
    at_the_end = {name: float(points["hit@3"][-1]) for name, points in series.items()}
    lowest = max(at_the_end.values()) - _FAR
    near = {name: points for name, points in series.items() if at_the_end[name] >= lowest}
    if 2 * len(near) < len(series):  # no crowd that the others press together
        near = series
    title = "hit@3 on validation questions against steps"
    picture = standalone(lines(near, "hit@3", title))
    (folder / "curves.svg").write_text(picture, encoding="utf-8")
    place = f"results/grid/{folder.name}/curves.svg"
    far = ", ".join(
        f"`{name}` (ends at {at_the_end[name]:.2f})" for name in series if name not in near
    )
    told = f" Far below, and not drawn: {far}." if far else ""
    return [f"{title}, explicit negatives, first seed.{told}", "", f"![{title}]({place})", ""]
