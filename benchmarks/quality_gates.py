"""How sharp the quality gates are: planted defects caught, good human rows rejected.

    python -m benchmarks.quality_gates DATA_DIR [--arabic DIR]

`DATA_DIR` is laid out as in `README.md`. Defects are planted in validation rows that pass the gates
undamaged; false rejections are counted on 1,000 human test rows. The gates' thresholds were set on
train rows and on the `tuning` rows of `defects/`, never on these.
"""

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.hinglish_files import read_tsv
from benchmarks.planted_defects import Planted, glossary, planted_defects, written
from benchmarks.provenance import RESULTS, provenance
from benchmarks.tables import provenance_line
from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, empty
from monoglot.generation.quality import keep_good
from monoglot.generation_config import QualityConfig
from monoglot.learning.consistency import Consistency, consistency
from monoglot.learning.encoder import Encoder

HINGLISH = LanguageConfig(code="hi-Latn", name="Hinglish")
ARABIC = LanguageConfig(code="ar", name="Arabic")
CONFIG = QualityConfig()
MODEL = "offline-minilm"
GOOD_ROWS = 1000
RANKS = (1, 2, 3, 5, 10)


def main() -> None:
    """Measure, print the table, and write `results/quality_gates.{json,md}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with kb.tsv and queries.tsv")
    parser.add_argument("--arabic", type=Path, help="the same of Arabic Banking77")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    record: dict[str, Any] = {"seed": given.seed, **provenance()}
    rows = {split: human(given.data, split) for split in ("train", "validation", "test")}
    record["defects"] = caught_defects(rows["validation"], given.seed)
    record["good"] = {
        "Hinglish-TOP test": rejected(rows["test"].sample(GOOD_ROWS, seed=given.seed), HINGLISH),
        "Hinglish-TOP train (thresholds were set here)": rejected(rows["train"], HINGLISH),
    }
    if given.arabic:
        arabic = human(given.arabic, "test").sample(GOOD_ROWS, seed=given.seed)
        record["good"]["Arabic Banking77 test"] = rejected(arabic, ARABIC)
        record["persian_and_urdu_for_arabic"] = persian_and_urdu(arabic)
    record["consistency"] = consistency_curve(given.data, rows, given.seed)
    text = "\n".join(report(record)) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quality_gates.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "quality_gates.md").write_text(text, encoding="utf-8")


def human(data: Path, split: str) -> pl.DataFrame:
    """The human queries of a split, with their English source where it is known."""
    return (
        read_tsv(data / "queries.tsv")
        .filter(pl.col("split") == split, pl.col("text").str.len_chars() > 0)
        .select("text", "label", english="en_text", source_row_id="kb_id")
    )


def as_queries(rows: pl.DataFrame, language: LanguageConfig) -> pl.DataFrame:
    """Table `Queries` of rows with text, english and perhaps label and source_row_id."""
    given = rows.columns
    return rows.select(
        query_id=pl.int_range(pl.len()).cast(pl.String),
        text="text",
        language=pl.lit(language.code),
        label="label" if "label" in given else pl.lit("label"),
        origin=pl.lit("translated"),
        source_row_id="source_row_id" if "source_row_id" in given else pl.lit(None, pl.String),
        english="english",
    ).cast(empty(Queries).schema)


def caught_defects(validation: pl.DataFrame, seed: int) -> dict[str, Any]:
    """Per class of defect: rows, share caught by the gates meant for it, and by any gate."""
    good, _ = keep_good(as_queries(validation, HINGLISH), HINGLISH, CONFIG)
    return {planted.defect: _caught(planted) for planted in planted_defects(good, seed)}


def _caught(planted: Planted) -> dict[str, Any]:
    pairs = pl.DataFrame(planted.pairs, schema=["text", "english"], orient="row")
    _, rejects = keep_good(as_queries(pairs, HINGLISH), HINGLISH, CONFIG, glossary())
    by_rule = Counter(rejects["rule"])
    return {
        "rows": pairs.height,
        "by_its_gate": sum(by_rule[rule] for rule in planted.rules) / pairs.height,
        "by_any": rejects.height / pairs.height,
        "gates": dict(by_rule),
    }


def rejected(rows: pl.DataFrame, language: LanguageConfig) -> dict[str, Any]:
    """Good rows that the gates reject, per gate, and how fast they are."""
    started = time.perf_counter()
    _, rejects = keep_good(as_queries(rows, language), language, CONFIG)
    seconds = time.perf_counter() - started
    return {
        "rows": rows.height,
        "share": rejects.height / rows.height,
        "gates": dict(Counter(rejects["rule"])),
        "seconds": round(seconds, 1),
    }


def persian_and_urdu(arabic: pl.DataFrame) -> dict[str, float]:
    """Share of Persian and of Urdu sentences caught where Arabic was asked for."""
    found = {}
    for (code,), part in written("other_languages").group_by("language", maintain_order=True):
        if code in ("fa", "ur"):
            pairs = part.select("text", english=arabic["english"].head(part.height))
            kept, _ = keep_good(as_queries(pairs, ARABIC), ARABIC, CONFIG)
            found[str(code)] = 1 - kept.height / part.height
    return found


def consistency_curve(data: Path, rows: dict[str, pl.DataFrame], seed: int) -> list[dict[str, Any]]:
    """Per rank: swapped labels caught on validation rows, good test rows doubted."""
    kb = read_tsv(data / "kb.tsv").filter(pl.col("first_split") == "train")
    kb = kb.select("label", "parent", row_id="kb_id", query="text")
    encoder = Encoder.load(MODEL)
    vectors = encoder.encode(kb["query"].to_list())

    def judged(part: pl.DataFrame) -> Consistency:
        queries = as_queries(part, HINGLISH)
        return consistency(queries, encoder.encode(queries["text"].to_list()), kb, vectors)

    good = rows["test"].filter(pl.col("label").is_in(kb["label"].unique().implode()))
    found = {
        "good": judged(good.sample(GOOD_ROWS, seed=seed)),
        "any": judged(_swapped(rows["validation"], kb, seed, near=False)),
        "sibling": judged(_swapped(rows["validation"], kb, seed, near=True)),
    }
    return [
        {"max_rank": place}
        | {name: float(np.mean(each.doubts(place))) for name, each in found.items()}
        for place in RANKS
    ]


def _swapped(part: pl.DataFrame, kb: pl.DataFrame, seed: int, *, near: bool) -> pl.DataFrame:
    """The rows under another label: any, weighted by its rows, or one of the same domain."""
    draw = random.Random(seed)  # noqa: S311
    domain = dict(kb.select("label", "parent").iter_rows())
    labels = kb["label"].to_list()
    by_domain: dict[str, list[str]] = {}
    for label in labels:
        by_domain.setdefault(domain[label], []).append(label)
    swapped = []
    for own in part["label"]:
        pool = by_domain.get(domain.get(own, ""), labels) if near else labels
        others = [label for label in pool if label != own] or labels
        swapped.append(draw.choice(others))
    return part.with_columns(label=pl.Series(swapped))


def report(record: dict[str, Any]) -> list[str]:
    """The results as markdown."""
    defects = record["defects"]
    rows = sum(each["rows"] for each in defects.values())
    total = sum(each["rows"] * each["by_any"] for each in defects.values()) / rows
    mean = sum(each["by_any"] for each in defects.values()) / len(defects)
    return [
        "# Quality gates: planted defects caught, good rows rejected",
        "",
        "Hinglish-TOP. Defects planted in human validation rows; sentences in other languages and "
        "talk about the task were written for this benchmark. Thresholds are the defaults, set on "
        "train rows and other sentences.",
        "",
        "| defect | rows | caught by its own gate | caught by any gate of form |",
        "|---|---|---|---|",
        *(
            f"| {name} | {each['rows']} | {each['by_its_gate']:.1%} | {each['by_any']:.1%} |"
            for name, each in defects.items()
        ),
        f"| **all rows** | {rows:,} | | **{total:.1%}** (mean over classes {mean:.1%}) |",
        "",
        "| good human rows | rows | rejected | by gate |",
        "|---|---|---|---|",
        *(
            f"| {name} | {each['rows']:,} | {each['share']:.2%} | {_counts(each['gates'])} |"
            for name, each in record["good"].items()
        ),
        "",
        *_arabic(record),
        f"## Label consistency, by the untuned model ({MODEL})",
        "",
        "A row is rejected when its own label is not among the nearest labels, its own source left "
        "out. Caught: validation rows under another label, drawn as often as it has rows, from all "
        "labels or from those of the same domain. Lost: good test rows.",
        "",
        "| own label in the first | caught, any label | caught, same domain | good rows lost |",
        "|---|---|---|---|",
        *(
            f"| {each['max_rank']} | {each['any']:.1%} | {each['sibling']:.1%} "
            f"| {each['good']:.1%} |"
            for each in record["consistency"]
        ),
        "",
        provenance_line(record),
    ]


def _counts(gates: dict[str, int]) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in gates.items()) or "none"


def _arabic(record: dict[str, Any]) -> list[str]:
    found = record.get("persian_and_urdu_for_arabic")
    if not found:
        return []
    return [
        f"Where Arabic was asked for: Persian caught {found['fa']:.0%}, Urdu {found['ur']:.0%} "
        "(20 sentences each).",
        "",
    ]


if __name__ == "__main__":
    main()
