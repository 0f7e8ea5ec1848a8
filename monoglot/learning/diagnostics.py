"""The failure signatures of the method, looked for by the program, with the figures that tell.

Each check takes tables or vectors and gives a `Finding`: what was seen, what it likely means, what
to do about it. A check that finds nothing is listed as fine; one that could not look says why.
Thresholds are constants below, each with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monoglot.contracts import Findings, empty
from monoglot.learning.bootstrap import paired_bootstrap
from monoglot.learning.metrics import ALL, asked, summarise
from monoglot.learning.ranking import Floats
from monoglot.wording import between, number, percent, signed

Verdict = Literal["found", "fine", "not checked"]

# Fewer questions than this say nothing about a share: its interval is wider than any threshold.
_FEW = 30
# Two sets of some hundred questions differ by up to .08 in hit@1 by chance; twice that is none.
_FLUENCY_GAP = 0.15
# A training that still learns lowers its loss by half over the epochs; a twentieth is standing
# still within the noise of a batch.
_FLAT_FALL = 0.05
# Of the first steps' loss: below a tenth there is nothing left to learn, above seven tenths next to
# nothing was learnt.
_SOLVED, _STUCK = 0.1, 0.7
# At 1 a query's language moves it as far as its label does: neighbours are chosen by language.
_APART = 1.0
# A label needs as many rows for its centroid, and a row as many others of its label, to be judged.
_ROWS_OF_LABEL = 3
# A coin that falls 5 times on one side is a 1 in 16 chance; below, no correction can pass anyway.
_LEAST_CONFUSED = 6
# Family-wise chance of naming an innocent pair of labels (Bonferroni).
_CHANCE = 0.05
_NEIGHBOURS = 10
# Share of the nearest rows that must agree on another label: a clear majority of ten.
_AGREE = 0.7
# Scores of one look at mislabelled rows: a minute on two cores. Beyond, some rows are looked at.
_MOST_CELLS = 2_000_000_000
_ROWS_PER_BLOCK = 1024
EXAMPLES = 50


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        check: its name, as a heading.
        verdict: whether the signature was found.
        seen: the figures; where it was not checked, why.
        means: what that likely means; empty where nothing was found.
        action: what to do about it; empty where nothing was found.
        examples: rows that show it: text, label, other.
        count: how many such rows there are in all.
    """

    check: str
    verdict: Verdict
    seen: str
    means: str = ""
    action: str = ""
    examples: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    count: int = 0


def table_of(findings: Sequence[Finding]) -> pl.DataFrame:
    """`contracts.Findings`."""
    rows: list[dict[str, Any]] = [
        {**vars(each), "examples": list(each.examples)} for each in findings
    ]
    return pl.DataFrame(rows, schema=empty(Findings).schema)


def fluency(translated: pl.DataFrame, native: pl.DataFrame, model: str, language: str) -> Finding:
    """Whether translations are as hard as what users write, for a model that knows neither.

    Where the English wordings of both are known, their own difference is taken off, since the rows
    of the knowledge base may be easier than users' questions in any language.

    Args:
        translated: `Outcomes` of translations that the model was not trained on.
        native: `Outcomes` of native questions in the same language, by the same model.
        model: its name.
        language: its code.
    """
    check = f"Translations to {language}"
    sizes = [asked(each).height for each in (translated, native)]
    if min(sizes) < _FEW:
        why = f"{sizes[0]:,} translations and {sizes[1]:,} native questions; {_FEW} of each tell"
        return Finding(check, "not checked", why)
    ours, theirs = (summarise(each)[ALL].micro["hit@1"] for each in (translated, native))
    controls = [summarise(each, control=True).get(ALL) for each in (translated, native)]
    seen = (
        f"hit@1 of the {model} model: {number(ours)} on {sizes[0]:,} translations (their own "
        f"source left out), {number(theirs)} on {sizes[1]:,} native questions"
    )
    gap = ours - theirs
    if controls[0] is not None and controls[1] is not None:
        english = [each.micro["hit@1"] for each in controls if each is not None]
        seen += f"; asked in English, {number(english[0])} and {number(english[1])}"
        gap -= english[0] - english[1]
    seen += f". Difference made by the language: {signed(gap)}."
    if abs(gap) < _FLUENCY_GAP:
        return Finding(check, "fine", seen)
    if gap > 0:
        return Finding(
            check, "found", seen,
            "The translations are easier than what users type: more formal, more literal, or with "
            "more English words. The model is trained on a language that nobody writes.",
            "Describe how users write under languages.style, ask for several renderings "
            "(languages.mixing), or add native queries (training.path, user_queries.path).",
        )  # fmt: skip
    return Finding(
        check, "found", seen,
        "The translations have lost what tells the labels apart: they are not fluent, or not of "
        "their sources.",
        "Read some of them; switch on quality.max_label_rank or quality.min_round_trip, or have a "
        "better model translate.",
    )  # fmt: skip


def hardest_below_random(hard: Mapping[str, pl.DataFrame], random: pl.DataFrame | None) -> Finding:
    """Whether a model trained on the hardest negatives alone is worse than one on random ones.

    Args:
        hard: name -> `Outcomes` of models trained on nearest negatives alone.
        random: those of random negatives; None: that baseline was not run.
    """
    check = "Hardest negatives against random ones"
    if random is None or not hard:
        return Finding(check, "not checked", "both must be run (baselines.also)")
    if asked(random).is_empty():
        return Finding(check, "not checked", "there is no question")
    gains = {name: paired_bootstrap(random, each, ["mrr"])["mrr"] for name, each in hard.items()}
    seen = "; ".join(
        f"{name}: {signed(gain.mean)} MRR against random negatives ({between(gain.low, gain.high)})"
        for name, gain in gains.items()
    )
    if all(gain.high >= 0 for gain in gains.values()):
        return Finding(check, "fine", f"{seen}.")
    return Finding(
        check, "found", f"{seen}.",
        "The nearest rows of other labels are often right answers, too: the taxonomy is too fine "
        "or too coarse for the similarity, or labels are noisy.",
        "Mix random and weighted negatives (sampling.strategy: algorithm1), look at the rows that "
        "seem mislabelled, and merge labels that no user tells apart.",
    )  # fmt: skip


def flat_loss(steps: pl.DataFrame) -> Finding:
    """Whether the loss stands still after the first epoch.

    Args:
        steps: columns step, epoch and loss, in order.
    """
    check = "Training loss"
    epochs = steps["epoch"].unique().sort() if steps.height else pl.Series([], dtype=pl.Int64)
    if len(epochs) < 2:
        return Finding(check, "not checked", "it takes two epochs to see")
    first = steps.filter(epoch=epochs[0])["loss"]
    quarter = max(1, len(first) // 4)
    start, after_one = _mean(first.head(quarter)), _mean(first.tail(quarter))
    end = _mean(steps.filter(epoch=epochs[-1])["loss"])
    fall = (after_one - end) / after_one if after_one > 0 else 0.0
    seen = (
        f"{number(start)} at the start, {number(after_one)} after the first of {len(epochs)} "
        f"epochs, {number(end)} in the last: {percent(fall)} lower since."
    )
    if fall >= _FLAT_FALL:
        return Finding(check, "fine", seen)
    if after_one <= _SOLVED * start:
        return Finding(
            check, "found", seen,
            "All there was to learn was learnt in one epoch: the negatives are too easy.",
            "Draw harder negatives (sampling.hard_negatives, a lower "
            "sampling.similarity.temperature), or train for fewer epochs.",
        )  # fmt: skip
    stuck = end >= _STUCK * start
    return Finding(
        check, "found", seen,
        "Training does not get off the ground: the learning rate is too high or too low, or the "
        "negatives contradict the labels."
        if stuck
        else "Training jumps about a level that it does not get below: the learning rate is too "
        "high, or the negatives are too easy to teach more.",
        "Lower fine_tuning.learning_rate to a third; where that changes nothing, raise it, and "
        "look at the rows that seem mislabelled."
        if stuck
        else "Lower fine_tuning.learning_rate to a third, or draw harder negatives "
        "(sampling.hard_negatives).",
    )  # fmt: skip


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _mean(values: pl.Series) -> float:
    return float(values.mean() or 0.0)  # type: ignore[arg-type]


def language_offset(
    query_vectors: Floats, query_labels: pl.Series, row_vectors: Floats, row_labels: pl.Series
) -> float | None:
    """How far a language moves a query, in units of how far a label does.

    The mean shift from a label's rows to its queries, over the labels that have both, divided by
    the mean distance of a label's centroid from that of all labels. Comparing label by label, a
    language whose users ask about other things does not count as lying apart.

    Args:
        query_vectors: (n, d) queries in one language.
        query_labels: (n,) their labels.
        row_vectors: (m, d) rows of the knowledge base, by the same model.
        row_labels: (m,) their labels.

    Returns:
        None where fewer than two labels have queries, and rows enough.
    """
    names = row_labels.unique().sort()
    asked_of = query_labels.is_in(names.implode()).to_numpy()
    rows, sizes = _centroids(row_vectors, row_labels, names)
    queries, numbers = _centroids(query_vectors[asked_of], query_labels.filter(asked_of), names)
    both = (sizes >= _ROWS_OF_LABEL) & (numbers > 0)
    if both.sum() < 2:
        return None
    rows, queries = rows[both], queries[both]
    shift = float(np.linalg.norm((queries - rows).mean(axis=0)))
    spread = float(np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean())
    return shift / spread if spread > 0 else None


def _centroids(
    vectors: Floats, labels: pl.Series, names: pl.Series
) -> tuple[Floats, NDArray[np.int64]]:
    """The mean vector of each named label (m, d), 0 where it has none; and how many it has (m,)."""
    codes = np.searchsorted(names.to_numpy(), labels.to_numpy())
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, codes, vectors)
    sizes = np.bincount(codes, minlength=len(names))
    sums /= np.maximum(sizes, 1)[:, None]
    return sums, sizes


def apart(language: str, before: float | None, after: float | None) -> Finding:
    """Whether a language lies apart from the rows after training.

    Args:
        language: its code.
        before: `language_offset` by the untuned model.
        after: the same by the tuned one.
    """
    check = f"Where {language} lies"
    if before is None or after is None:
        why = f"it takes two labels with questions and {_ROWS_OF_LABEL} rows each"
        return Finding(check, "not checked", why)
    seen = (
        f"The language moves a query {after:.2f} times as far as its label does ({before:.2f} "
        "before training)."
    )
    if after < _APART:
        return Finding(check, "fine", seen)
    return Finding(
        check, "found", seen,
        "Queries find neighbours by language before they find them by label: the languages are "
        "not aligned.",
        "Train on more translations of each label, raise sampling.own_source_share so that more "
        "of them are paired with their own source, or lower merging.base_weight.",
    )  # fmt: skip


def stealing(outcomes: pl.DataFrame) -> Finding:
    """Pairs of labels of which one is taken for the other far more often than the reverse.

    An exact binomial test of the two counts against a fair coin, corrected for the number of pairs.

    Args:
        outcomes: `Outcomes` of the candidate.
    """
    from scipy.stats import binomtest

    check = "Labels that steal from one another"
    wrong = asked(outcomes).filter((pl.col("rank") != 1) & pl.col("known"))
    wrong = wrong.with_columns(other=pl.col("top_labels").list.get(0, null_on_oob=True))
    wrong = wrong.drop_nulls("other")
    counts = wrong.group_by("label", "other").agg(
        n=pl.len(), text=pl.col("text").sort_by("query_id").first()
    )
    back = counts.select(label="other", other="label", back="n")
    pairs = counts.join(back, on=["label", "other"], how="left").with_columns(
        pl.col("back").fill_null(0)
    )
    pairs = pairs.filter(
        (pl.col("n") > pl.col("back")) & (pl.col("n") + pl.col("back") >= _LEAST_CONFUSED)
    )
    chance = [
        binomtest(n, n + back, alternative="greater").pvalue
        for n, back in pairs.select("n", "back").iter_rows()
    ]
    # Either of a pair could have been the thief, so the one-sided chance counts twice.
    found = pairs.filter(pl.Series(chance, dtype=pl.Float64) * 2 * max(1, pairs.height) < _CHANCE)
    found = found.sort("n", "label", "other", descending=[True, False, False])
    looked_at = (
        f"{_counted(wrong.height, 'wrong first label')}, {_counted(pairs.height, 'pair')} to test"
    )
    if found.is_empty():
        return Finding(check, "fine", f"{looked_at}.")
    named = "; ".join(
        f"{label} is answered with {other} {n} times, the reverse {back}"
        for label, other, n, back in found.select("label", "other", "n", "back").head(5).iter_rows()
    )
    return Finding(
        check, "found", f"{looked_at}. {named}.",
        "The second label of each pair covers what the first one is for: its rows are more, or "
        "broader, or some of them belong to the first.",
        "Read the rows of both labels side by side: move those that are on the wrong side, add "
        "rows to the first that say what sets it apart, or merge the two.",
        tuple(found.select("text", "label", "other").head(EXAMPLES).to_dicts()),
        found.height,
    )  # fmt: skip


def mislabelled(rows: pl.DataFrame, vectors: Floats, *, seed: int = 0) -> Finding:
    """Rows whose nearest other rows agree on another label.

    Confident learning (Northcutt et al., arXiv 1911.00068): a row counts as class j where its
    probability of j reaches the mean of that class's own rows, and as mislabelled where that is
    another class than its own. The probability is the share among the ten nearest rows, the row
    itself left out. A row of a small class whose fellows are all near is not suspected, though
    others fill the ten; and classes with very few rows are not judged at all.

    Args:
        rows: columns row_id, query and label.
        vectors: (rows, d), of length 1, by the tuned model.
        seed: of the choice of rows to look at, where there are too many.
    """
    check = "Rows that look mislabelled"
    sizes = rows.select(pl.len().over("label")).to_series().to_numpy()
    judged = np.flatnonzero(sizes > _ROWS_OF_LABEL)
    most = max(1, _MOST_CELLS // max(1, rows.height))
    if len(judged) > most:
        rng = np.random.default_rng(seed)
        judged = np.sort(rng.choice(judged, most, replace=False))
    if len(judged) == 0 or rows["label"].n_unique() < 2:
        return Finding(check, "not checked", f"no label has more than {_ROWS_OF_LABEL} rows")
    names = rows["label"].unique().sort()
    codes = np.searchsorted(names.to_numpy(), rows["label"].to_numpy())
    other, share, own = _votes(vectors, codes, judged)
    mean_own = np.bincount(codes[judged], own, len(names)) / np.maximum(
        np.bincount(codes[judged], minlength=len(names)), 1
    )
    own /= np.minimum(sizes[judged] - 1, _NEIGHBOURS) / _NEIGHBOURS  # of the fellows it can have
    suspect = (share >= np.maximum(mean_own[other], _AGREE)) & (share > own)
    order = np.lexsort((judged, own - share))
    chosen = order[suspect[order]]
    looked_at = f"{len(judged):,} of {rows.height:,} rows looked at"
    if len(chosen) == 0:
        return Finding(check, "fine", f"{looked_at}.")
    texts = rows["query"].gather(judged[chosen])
    examples = [
        {"text": text, "label": names[int(codes[judged[row]])], "other": names[int(other[row])]}
        for text, row in zip(texts, chosen[:EXAMPLES], strict=False)
    ]
    return Finding(
        check, "found",
        f"{_counted(len(chosen), 'row')} whose nearest rows agree on another label ({looked_at}).",
        "Some of them stand under the wrong label; others show two labels that mean nearly the "
        "same. Either way they teach the model to confuse the two.",
        "Read them, the surest first, and move those that are wrong.",
        tuple(examples),
        len(chosen),
    )  # fmt: skip


def _votes(
    vectors: Floats, codes: NDArray[np.int64], judged: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """For each judged row the other label with most neighbours, its share, and the own label's."""
    near = min(_NEIGHBOURS, len(codes) - 1)
    other = np.zeros(len(judged), np.int64)
    shares = np.zeros((2, len(judged)), np.float32)
    for start in range(0, len(judged), _ROWS_PER_BLOCK):
        block = judged[start : start + _ROWS_PER_BLOCK]
        scores = vectors[block] @ vectors.T
        scores[np.arange(len(block)), block] = -np.inf
        nearest = np.argpartition(-scores, near - 1, axis=1)[:, :near]
        found = codes[nearest]
        for row, labels in enumerate(found, start=start):
            counted = np.bincount(labels[labels != codes[judged[row]]])
            shares[1, row] = (labels == codes[judged[row]]).mean()
            if counted.size:
                other[row], shares[0, row] = counted.argmax(), counted.max() / near
    return other, shares[0], shares[1]
