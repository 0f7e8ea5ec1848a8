"""The failure signatures of the method, looked for by the program, with the figures that tell.

Each check takes tables or vectors and gives a `Finding`: what was seen, what it likely means, what
to do about it. A check that finds nothing is listed as fine; one that could not look says why.
Thresholds are constants below, each with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from monoglot.contracts import Findings, empty
from monoglot.learning.bootstrap import paired_bootstrap
from monoglot.learning.metrics import ALL, asked, summarise
from monoglot.wording import between, number, percent, signed

Verdict = Literal["found", "fine", "not checked"]

# Fewer questions than this say nothing about a share: its interval is wider than any threshold.
_FEW = 30
# Two sets of some hundred questions differ by up to .08 in hit@1 by chance: this is twice that.
_FLUENCY_GAP = 0.15
# A training that still learns lowers its loss by half over the epochs; a twentieth is standing
# still within the noise of a batch.
_FLAT_FALL = 0.05
# Of the first steps' loss: below a tenth there is nothing left to learn, above seven tenths next to
# nothing was learnt.
_SOLVED, _STUCK = 0.1, 0.7
# A coin that falls 5 times on one side is a 1 in 16 chance; below, no correction can pass anyway.
_LEAST_CONFUSED = 6
# Family-wise chance of naming an innocent pair of labels (Bonferroni).
_CHANCE = 0.05
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

    Where the English wordings of both are known, each is taken as a share of what is found in
    English, since the rows of the knowledge base may be easier, or harder, than users' questions in
    any language.

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
        if min(english) > 0:
            gap = ours / english[0] - theirs / english[1]
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
    first, last = (_of_whole_batches(steps, epoch) for epoch in (epochs[0], epochs[-1]))
    quarter = max(1, len(first) // 4)
    start, after_one = _mean(first.head(quarter)), _mean(first.tail(quarter))
    end = _mean(last)
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


def _of_whole_batches(steps: pl.DataFrame, epoch: int) -> pl.Series:
    """An epoch's losses but the last: its batch is what is left over, and of few rows easy."""
    losses = steps.filter(epoch=epoch)["loss"]
    return losses.head(max(1, len(losses) - 1))


def counted(number: int, what: str) -> str:
    """A number of things, of which there may be one."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _mean(values: pl.Series) -> float:
    return float(values.mean() or 0.0)  # type: ignore[arg-type]


def stealing(outcomes: pl.DataFrame) -> Finding:
    """Pairs of labels of which one is taken for the other far more often than the reverse.

    An exact binomial test of the two counts against what they were if questions of both labels went
    astray alike often, corrected for the number of pairs. The wordings of one English source go
    astray together and count once.

    Args:
        outcomes: `Outcomes` of the candidate.
    """
    from scipy.stats import binomtest

    check = "Labels that steal from one another"
    questions = asked(outcomes).filter("known")
    wrong = questions.filter(pl.col("rank") != 1)
    wrong = wrong.with_columns(other=pl.col("top_labels").list.get(0, null_on_oob=True))
    wrong = wrong.drop_nulls("other")
    pairs = _confusions(wrong, questions)
    chance = [
        binomtest(n, n + back, of / (of + of_other), alternative="greater").pvalue
        for n, back, of, of_other in pairs.select("n", "back", "of", "of_other").iter_rows()
    ]
    # Either of a pair could have been the thief, so the one-sided chance counts twice.
    found = pairs.filter(pl.Series(chance, dtype=pl.Float64) * 2 * max(1, pairs.height) < _CHANCE)
    found = found.sort("n", "label", "other", descending=[True, False, False])
    looked_at = (
        f"{counted(wrong.height, 'wrong first label')}, {counted(pairs.height, 'pair')} to test"
    )
    if found.is_empty():
        return Finding(check, "fine", f"{looked_at}.")
    named = "; ".join(
        f"{label} is answered with {other} {n} times of {of}, the reverse {back} of {of_other}"
        for label, other, n, back, of, of_other in found.select(
            "label", "other", "n", "back", "of", "of_other"
        )
        .head(5)
        .iter_rows()
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


def _confusions(wrong: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """label, other, n and back of pairs that are confused often enough to be tested.

    `n` of the label's `of` sources were answered with the other, `back` of that one's `of_other`
    the other way; the first is the larger share. `text` is an example.
    """
    counts = wrong.group_by("label", "other").agg(
        n=pl.col("group").n_unique(), text=pl.col("text").sort_by("query_id").first()
    )
    back = counts.select(label="other", other="label", back="n")
    of = questions.group_by("label").agg(of=pl.col("group").n_unique())
    of_other = of.select(other="label", of_other="of")
    pairs = (
        counts.join(back, on=["label", "other"], how="left")
        .join(of, on="label", how="left")
        .join(of_other, on="other", how="left")
        .with_columns(pl.col("back", "of_other").fill_null(0))
    )
    larger = pl.col("n") * pl.col("of_other") > pl.col("back") * pl.col("of")
    return pairs.filter(larger & (pl.col("n") + pl.col("back") >= _LEAST_CONFUSED))
