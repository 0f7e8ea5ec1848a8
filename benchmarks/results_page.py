"""`RESULTS.md` from the grid's result files: tables with intervals, and what is missing.

python -m benchmarks.results_page
"""

import argparse
import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.grid_cells import GIVEN, PEERS, cells_for, peers_for
from benchmarks.grid_data import DATASETS
from benchmarks.grid_results import GRID, measured_of, outcomes_of, read
from benchmarks.hinglish_files import MACRO_MIN
from benchmarks.provenance import ROOT
from benchmarks.results_answers import answers, curves
from benchmarks.tables import cell as mean_and_range
from benchmarks.tables import table
from monoglot.learning.comparison import Line, Measured, compare, verdict
from monoglot.learning.metrics import ALL, summarise
from monoglot.wording import between, signed

PAGE = ROOT / "benchmarks" / "RESULTS.md"
_UNSEEDED = (*GIVEN, *(name for name, peer in PEERS.items() if not peer.is_seeded))
_CONTROL = {"banking77_ar": "english"}  # the part that is the English control there
_REPORTED = "test"
_HEADS = (
    "cell",
    "seeds",
    "hit@1",
    "hit@3",
    "MRR",
    "macro MRR",
    "English MRR",
    "TF-IDF wrong, MRR",
    "index set only, MRR",
    "gain in MRR",
    "p (Holm)",
    "training s",
    "CPU s",
    "peak GB",
)


def page(folder: Path) -> str:
    """The whole page."""
    lines = [
        "# Results on public data",
        "",
        "Made from the files in `results/grid` by `python -m benchmarks.results_page`; these are "
        "made by `python -m benchmarks.grid DATASET DATA_DIR --work WORK_DIR`, which goes on with "
        "what is missing. Cells and their settings: `grid_cells.py`; the data: `README.md`.",
        "",
    ]
    for dataset in DATASETS:
        about = inspect.getdoc(DATASETS[dataset]) or ""
        body = section(dataset, folder / dataset)
        lines += [f"## {dataset}", "", _one_line(about), "", *body, ""]
    return "\n".join(lines)


def _one_line(docstring: str) -> str:
    """A docstring without what it says of errors, as a paragraph."""
    return " ".join(docstring.split("Raises:", maxsplit=1)[0].split())


def section(dataset: str, folder: Path) -> list[str]:
    """One data set: its table, which differences are real, what is missing, where it comes from."""
    cells = cells_for(dataset)
    wanted = {**{name: PEERS[name].changes for name in peers_for(dataset)}, **cells.changes}
    found = results_in(folder, wanted)
    due = {name: cells.seeds[:1] if name in _UNSEEDED else cells.seeds for name in wanted}
    missing = {
        name: [seed for seed in seeds if seed not in found.get(name, {})]
        for name, seeds in due.items()
    }
    told = _missing(missing, of=sum(map(len, due.values())))
    if not any(found.values()):
        return ["Nothing is measured yet.", "", told]
    questions = read(folder / "questions.json")
    measured = {
        name: _as_measured(name, by_seed, questions, cells.seeds) for name, by_seed in found.items()
    }
    asked = {name: _reported(each, dataset) for name, each in measured.items()}
    body = _table(asked, found, questions, cells.reference, cells.seeds)
    more = [*_by_language(asked), *answers(dataset, asked, cells.seeds), *curves(found, folder)]
    return [*body, "", *more, told, "", *_provenance(found)]


def _as_measured(
    name: str,
    by_seed: Mapping[int, Mapping[str, Any]],
    questions: Mapping[str, Any],
    seeds: Sequence[int],
) -> Measured:
    """What a cell answered under its seeds; what no seed changes counts under all of them."""
    if name not in _UNSEEDED:
        return measured_of(questions, by_seed)
    return Measured.unseeded(outcomes_of(questions, by_seed[0]["places"]), seeds)


def results_in(folder: Path, wanted: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Cell -> seed -> result, in the order of the grid; what no seed changes under 0.

    A result of a cell that is no more, or of another meaning of its name, is left out.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in (*GIVEN, *wanted)}
    for path in sorted(folder.glob("*.json")):
        if path.name == "questions.json":
            continue
        result = read(path)
        name = result["cell"]
        if name in GIVEN or (name in wanted and result["changes"] == wanted[name]):
            found[name][0 if name in _UNSEEDED else result["seed"]] = result
    return {name: by_seed for name, by_seed in found.items() if by_seed}


def _reported(measured: Measured, dataset: str) -> Measured:
    """On the reported questions; where English ones are asked beside them, these as the control."""
    return Measured(
        {seed: _with_control(it, dataset) for seed, it in measured.outcomes.items()},
        measured.costs,
        measured.failed,
    )


def _with_control(outcomes: pl.DataFrame, dataset: str) -> pl.DataFrame:
    control = _CONTROL.get(dataset)
    reported = outcomes.filter(part=_REPORTED)
    if control is None:
        return reported
    english = outcomes.filter(part=control).with_columns(control=pl.lit(value=True))
    return pl.concat([reported, english])


def _table(
    asked: Mapping[str, Measured],
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
    questions: Mapping[str, Any],
    reference: str,
    seeds: Sequence[int],
) -> list[str]:
    """The table, and below it what it says."""
    if reference not in asked:
        return [f"The reference, {reference}, is not measured yet: nothing can be compared."]
    lines = compare(asked, reference, seeds, "mrr")
    easy = _found_by_tfidf(asked)
    rows = [_row(line, asked[line.cell], found[line.cell], questions, easy) for line in lines]
    first = next(iter(asked[reference].outcomes.values()))
    count = first.filter(~pl.col("control")).height
    return [
        f"| {' | '.join(_HEADS)} |",
        "|" + "---|" * len(_HEADS),
        *rows,
        "",
        f"{count:,} questions ({_REPORTED}); mean (range) over seeds. hit@k and MRR over distinct "
        f"labels. Macro: labels with at least {MACRO_MIN} questions. TF-IDF wrong: the questions "
        f"whose label TF-IDF does not find first. Gain: over `{reference}`, with its 95 % interval "
        "by paired bootstrap over English sources (over questions where these are unknown), all "
        "seeds of a source drawn together; p adjusted by Holm's procedure. A gain with * is real: "
        "p below .05 and one sign under every seed. GPU: measured on a GPU that up to eleven "
        "cells shared, the others on two cores. Training s: wall clock, with other cells beside "
        "it; CPU s: of all that a cell takes, answering included, and under the first seed the "
        "looks that its curve is drawn from.",
        "",
        verdict(lines, reference, "mrr"),
    ]


def _by_language(asked: Mapping[str, Measured]) -> list[str]:
    """MRR in each language, where the questions are in several."""
    scores = {
        name: [summarise(outcomes) for outcomes in each.outcomes.values()]
        for name, each in asked.items()
    }
    languages = [language for language in next(iter(scores.values()))[0] if language != ALL]
    if len(languages) < 2:
        return []
    rows = {
        name: {language: [it[language].micro["mrr"] for it in each] for language in languages}
        for name, each in scores.items()
    }
    return [*table(rows, dict(zip(languages, languages, strict=True)), "MRR by language"), ""]


def _found_by_tfidf(asked: Mapping[str, Measured]) -> pl.Series:
    """Ids of the questions that TF-IDF answers rightly."""
    if "TF-IDF" not in asked:
        return pl.Series([], dtype=pl.String)
    outcomes = next(iter(asked["TF-IDF"].outcomes.values()))
    return outcomes.filter(~pl.col("control"), pl.col("rank") == 1)["query_id"]


def _row(
    line: Line,
    measured: Measured,
    results: Mapping[int, Mapping[str, Any]],
    questions: Mapping[str, Any],
    easy: pl.Series,
) -> str:
    """A cell's row of the table."""
    distinct = list(measured.outcomes.values())[: len(results)]  # what no seed changes, once
    micro = [summarise(it)[ALL].micro for it in distinct]
    macro = [summarise(it, macro_min=MACRO_MIN)[ALL].macro.get("mrr") for it in distinct]
    english = [
        scores[ALL].micro["mrr"] for it in distinct if (scores := summarise(it, control=True))
    ]
    hard = [summarise(it.filter(~pl.col("query_id").is_in(easy.implode()))) for it in distinct]
    gain = "-"
    if line.gain is not None:
        star = " *" if line.is_real else ""
        gain = f"{signed(line.gain.mean)} ({between(line.gain.low, line.gain.high)}){star}"
    cells = [
        line.cell,
        "-" if line.cell in _UNSEEDED else ", ".join(map(str, line.seeds)),
        *(mean_and_range([it[metric] for it in micro]) for metric in ("hit@1", "hit@3", "mrr")),
        mean_and_range(macro),
        mean_and_range(english),
        mean_and_range([it[ALL].micro["mrr"] for it in hard if it]),
        mean_and_range(_over_index_set(questions, results)),
        gain,
        "-" if line.p is None else "< .001" if line.p < 0.001 else f"{line.p:.3f}",
        *_costs(results),
    ]
    return f"| {' | '.join(cells)} |"


def _costs(results: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Training, processor and memory; apart for the seeds that were measured on a GPU."""
    told: list[list[str]] = []
    for on_gpu in (False, True):
        its = [it for it in results.values() if bool(it["provenance"]["gpu"]) == on_gpu]
        seconds = [it["cost"]["seconds"] for it in its if it.get("cost")]
        cpu = [it["cpu_seconds"] for it in its if it.get("cpu_seconds")]
        peaks = [it["peak_bytes"] / 1e9 for it in its if it.get("peak_bytes")]
        costs = [mean_and_range(seconds, 0), mean_and_range(cpu, 0)]
        costs.append(f"{max(peaks):.1f}" if peaks else "-")
        if any(cost != "-" for cost in costs):
            told.append([f"GPU {cost}" if on_gpu else cost for cost in costs])
    return ["; ".join(each) for each in zip(*told, strict=True)] or ["-", "-", "-"]


def _over_index_set(
    questions: Mapping[str, Any], results: Mapping[int, Mapping[str, Any]]
) -> list[float]:
    """MRR of each seed where the index set alone answers."""
    return [
        summarise(
            outcomes_of(questions, {"text": it["places"]["index_set"]}).filter(part=_REPORTED)
        )[ALL].micro["mrr"]
        for it in results.values()
        if "index_set" in it["places"]
    ]


def _missing(missing: Mapping[str, Sequence[int]], of: int) -> str:
    """Which results are missing, in a sentence."""
    count = sum(map(len, missing.values()))
    if not count:
        return f"All {of} results of the grid are here."
    by_seeds: dict[str, list[str]] = defaultdict(list)
    for name, seeds in missing.items():
        if seeds:
            by_seeds[", ".join(map(str, seeds))].append(f"`{name}`")
    told = "; ".join(f"seeds {seeds}: {', '.join(names)}" for seeds, names in by_seeds.items())
    return f"**Missing, {count} of {of} results.** {told}."


def _provenance(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[str]:
    """Commits, dates and hardware of all results, and the command."""
    all_ = [it["provenance"] for by_seed in found.values() for it in by_seed.values()]
    machines = sorted({f"{it['cpu']}, {it['cores']} cores, {it['gpu'] or 'no GPU'}" for it in all_})
    return [
        f"Commits {', '.join(sorted({it['commit'] for it in all_}))}; "
        f"{min(it['date'] for it in all_)} to {max(it['date'] for it in all_)}; "
        f"{'; '.join(machines)}."
    ]


def main(given: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results_page")
    parser.add_argument("--results", type=Path, default=GRID)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args(given)
    chosen.page.write_text(page(chosen.results), encoding="utf-8")


if __name__ == "__main__":
    main()
