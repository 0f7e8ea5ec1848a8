"""`training_set`: the one gate through which every query passes before a model learns from it.

Nothing of the evaluation trains: no query that has the text of a question or of its English
wording, whether to the letter or without case and punctuation, and none whose English source has.

Near-duplicates are another matter. A translation that resembles a question is no leak: people ask
alike, and 52 of the 2,993 human train queries of Hinglish-TOP resemble one of the 2,881 test
queries ("7 pm ke liye alarm set kare", "5 pm ..."), though no English source is shared. To remove
them would make the test harder than life, so translations and queries labelled by people stay.
What a model wrote freely, or labelled, is different: it costs little to lose and nobody vouches
for where it comes from; a user's query may be the very one that was sampled for the evaluation.
"""

import polars as pl

from monoglot.contracts import Rejects
from monoglot.identity import all_normalised, normalised
from monoglot.knowledge.duplicates import near_pairs, near_to, repeats
from monoglot.knowledge.labels import texts_of_several
from monoglot.knowledge.parts import untrained_labels
from monoglot.knowledge.split import without_leaks
from monoglot.spelling import folded_spelling

# Origins whose near-duplicates are dropped, the more trusted first.
_MADE = ("user", "synthetic")
_VALUE_CHARS = 200
_TEXT = {"query": "text"}


def training_set(
    anchors: pl.DataFrame, rows: pl.DataFrame, evaluation: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The queries to train on, and the others as rejects.

    Args:
        anchors: `contracts.Queries` of all sources.
        rows: the knowledge base or its `contracts.Split` (row_id, query, label).
        evaluation: `contracts.Queries` to evaluate on.

    Returns:
        `contracts.Queries` sorted by id, and `contracts.Rejects`.
    """
    untrained = untrained_labels(rows) if "part" in rows.columns else rows["label"].clear()
    marked = anchors.with_columns(
        rule=pl.when(~pl.col("label").is_in(rows["label"].unique().implode()))
        .then(pl.lit("unknown_label"))
        .when(pl.col("label").is_in(untrained.implode()))
        .then(pl.lit("untrained_label"))
    )
    trainable = pl.col("rule").is_null()
    kept, leaks = without_leaks(marked.filter(trainable).drop("rule"), evaluation, rows)
    kept, torn = _without_contradictory(kept, rows)
    kept, copies = without_near_copies(kept, rows, evaluation)
    lost = _rejects(
        marked.filter(~trainable),
        "label",
        {
            "unknown_label": "the knowledge base has no row with this label",
            "untrained_label": "nothing is to be trained on this label (split.untrained_labels)",
        },
    )
    return kept.sort("query_id"), pl.concat([lost, leaks, torn, copies])


def _without_contradictory(
    anchors: pl.DataFrame, rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out made queries whose text stands under another label as well, with the reason.

    It cannot be told whose they are. What people labelled or translated stays, as do rows of the
    knowledge base that differ in case or punctuation alone.
    """
    said = pl.concat([anchors.select("text", "label"), rows.select("query", "label").rename(_TEXT)])
    several = texts_of_several(said)["folded"]
    torn = all_normalised(anchors["text"]).is_in(several.implode())
    torn &= anchors["origin"].cast(pl.String).is_in(_MADE)
    dropped = anchors.filter(torn).with_columns(rule=pl.lit("contradictory"))
    return anchors.filter(~torn), _rejects(
        dropped, "text", {"contradictory": "this text stands under another label, too"}
    )


def without_guarded(anchors: pl.DataFrame, guarded: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out queries that a guard asks, to the letter or without case and punctuation.

    Not those that share their English wording alone: a guard may be the knowledge base in another
    language, whose rows are there to be trained on.

    Args:
        anchors: `contracts.Queries`.
        guarded: texts of a guard's questions.
    """
    return _without_texts(anchors, guarded, "guarded_text", "a guard asks this text (guards)")


def spelt_like(anchors: pl.DataFrame, held: pl.Series) -> pl.Series:
    """The ids of the anchors that another spelling may turn into one of the texts.

    The ways in which people spell a romanised word are folded to one (`folded_spelling`): an anchor
    that differs from a held text by them alone may become that text by spelling noise.

    Args:
        anchors: `contracts.Queries`.
        held: texts that nothing is trained on.
    """
    folded = {_folded(text) for text in held.drop_nulls().unique()}
    alike = pl.Series([_folded(text) in folded for text in anchors["text"]], dtype=pl.Boolean)
    return anchors["query_id"].filter(alike).sort()


def _folded(text: str) -> str:
    return " ".join(folded_spelling(word) for word in normalised(text).split())


def without_out_of_scope(
    anchors: pl.DataFrame, outside: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out queries that no row answers, as people say: abstention is calibrated on them.

    Args:
        anchors: `contracts.Queries`.
        outside: texts of the out-of-scope queries.
    """
    reason = "an out-of-scope query has this text (abstention.out_of_scope)"
    return _without_texts(anchors, outside, "out_of_scope", reason)


def _without_texts(
    anchors: pl.DataFrame, texts: pl.Series, rule: str, reason: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out queries with one of the texts, compared without case and punctuation."""
    among = all_normalised(anchors["text"]).is_in(all_normalised(texts).unique().implode())
    dropped = anchors.filter(among).with_columns(rule=pl.lit(rule))
    return anchors.filter(~among), _rejects(dropped, "text", {rule: reason})


def without_near_copies(
    anchors: pl.DataFrame, rows: pl.DataFrame, evaluation: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out made queries (synthetic, user) that are near-duplicates, with the reason.

    Of a question of the evaluation or its English wording: also by the query's own wording. Of a
    row of the knowledge base: synthetic queries, which should be in the target language. Of another
    training query of the same label: the one of the better origin stays; with another label it is
    no repeat ("turn on the light", "turn off the light").

    Args:
        anchors: `contracts.Queries`.
        rows: columns row_id, query, label.
        evaluation: `contracts.Queries`.
    """
    origin = pl.col("origin").cast(pl.String)
    made = anchors.filter(origin.is_in(_MADE)).sort(origin == _MADE[-1], "query_id")
    firm = anchors.filter(~origin.is_in(_MADE))
    asked = pl.concat([evaluation["text"], evaluation["english"]]).drop_nulls().unique().to_list()
    near = {
        "near_evaluation": _near(made["text"], asked) | _near(made["english"], asked),
        "near_knowledge_base": _near(made["text"], rows["query"].to_list())
        & (made["origin"].cast(pl.String) == "synthetic"),
        "near_duplicate": _near_same_label(made, firm),
    }
    marked = made.with_columns(
        rule=pl.coalesce(pl.when(hit).then(pl.lit(rule)) for rule, hit in near.items())
    )
    left = marked.filter(pl.col("rule").is_null())
    again = repeats(left["text"].to_list(), left["label"].to_list())
    repeated = left.filter(pl.Series([place is not None for place in again], dtype=pl.Boolean))
    dropped = pl.concat(
        [
            marked.filter(pl.col("rule").is_not_null()),
            repeated.with_columns(rule=pl.lit("near_duplicate")),
        ]
    )
    reasons = {
        "near_evaluation": "nearly the text of an evaluation question or of its English wording",
        "near_knowledge_base": "nearly the text of a row of the knowledge base",
        "near_duplicate": "nearly the text of another training query of its label",
    }
    kept = anchors.join(dropped, on="query_id", how="anti", maintain_order="left")
    return kept, _rejects(dropped, "text", reasons)


def _near(texts: pl.Series, others: list[str]) -> pl.Series:
    """Whether each text is a near-duplicate of any other; false where there is no text."""
    return near_to(texts.fill_null("").to_list(), others).is_not_null() & texts.is_not_null()


def _near_same_label(made: pl.DataFrame, firm: pl.DataFrame) -> pl.Series:
    """Whether each made query is a near-duplicate of a firm one of its label."""
    pairs = near_pairs(made["text"].to_list(), firm["text"].to_list())
    same = made["label"].gather(pairs["left"]) == firm["label"].gather(pairs["right"])
    return pl.int_range(made.height, eager=True).is_in(pairs["left"].filter(same).implode())


def _rejects(queries: pl.DataFrame, column: str, reasons: dict[str, str]) -> pl.DataFrame:
    """`contracts.Rejects` of queries with a column `rule`."""
    return queries.select(
        file=pl.format("training ({})", pl.col("origin").cast(pl.String)),
        row=pl.lit(None, dtype=pl.Int64),
        column=pl.lit(column),
        value=pl.col(column).str.slice(0, _VALUE_CHARS),
        rule=pl.col("rule"),
        reason=pl.col("rule").replace_strict(reasons, default=None, return_dtype=pl.String),
    ).select(Rejects.column_names())
