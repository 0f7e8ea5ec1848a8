"""Which rows may answer a user query: what an LLM is given to choose from.

No LLM can be asked about thousands of labels. The nearest labels of the base model and those with
the most shared words are put together, each with its nearest row: a model that knows English alone
is then not the only judge of a text it cannot read. The base model and not the one in production,
whose candidates would change with every training, and with them what is asked and paid for.
"""

from collections.abc import Callable

import polars as pl

from monoglot.contracts import Candidates, empty
from monoglot.learning.baselines import tfidf_scores
from monoglot.learning.ranking import PLACES, Floats, Ranking, rank, rank_by

# Labels by the model and by words, ten together on average. On the validation questions of
# Hinglish-TOP with all-MiniLM-L6-v2, which has seen no Hindi, the right label is among them for
# .947 (ten by the model alone .938, by words alone .919), and for .993 once those that nobody
# answered are searched again by their English wording.
BY_MODEL, BY_WORDS = 8, 6

Encode = Callable[[list[str]], Floats]


def find_candidates(
    queries: pl.DataFrame,
    rows: pl.DataFrame,
    row_vectors: Floats,
    encode: Encode,
    shown: pl.DataFrame | None = None,
    *,
    by: str = "text",
) -> pl.DataFrame:
    """Candidate rows of each query, one a label.

    Args:
        queries: query_id and the column `by`; a query that has null there gets no candidates.
        rows: `contracts.KnowledgeBase`.
        row_vectors: (rows, d), of their queries by the base model.
        encode: texts to unit vectors, by the base model.
        shown: candidates that were judged before; their labels are left out. None: there are none.
        by: the column to search with.

    Returns:
        `contracts.Candidates`, sorted by query and row: their order tells nothing of their rank,
        and a change of rank alone changes nothing of what is asked.
    """
    asked = queries.filter(pl.col(by).is_not_null())
    if asked.is_empty():
        return empty(Candidates)
    texts = asked[by]
    places = PLACES + (0 if shown is None else BY_MODEL + BY_WORDS)
    near = rank(encode(texts.to_list()), row_vectors, rows["label"], places=places)
    alike = rank_by(tfidf_scores(rows["query"])(texts), len(texts), rows["label"], places=places)
    before = None if shown is None else shown.select("query_id", "label")
    found = pl.concat(
        [
            _first(asked, near, before, BY_MODEL),
            _first(asked, alike, before, BY_WORDS),
        ]
    ).unique(["query_id", "label"], keep="first", maintain_order=True)
    known = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    joined = found.drop("label").join(known, on="row").sort("query_id", "row_id")
    table = joined.select(Candidates.column_names())
    return pl.DataFrame(Candidates.validate(table, cast=True))


def _first(
    asked: pl.DataFrame, ranking: Ranking, before: pl.DataFrame | None, count: int
) -> pl.DataFrame:
    """Query, label and position of the nearest row, of the first labels not shown before."""
    places = ranking.label.shape[1]
    flat = pl.DataFrame(
        {
            "query_id": asked["query_id"].gather(
                pl.int_range(asked.height * places, eager=True) // places
            ),
            "code": ranking.label.ravel(),
            "row": ranking.row.ravel(),
        }
    ).filter(pl.col("code") >= 0)
    named = flat.select("query_id", "row", label=ranking.names.gather(flat["code"]))
    if before is not None:
        named = named.join(before, on=["query_id", "label"], how="anti", maintain_order="left")
    return (
        named.group_by("query_id", maintain_order=True)
        .head(count)
        .select("query_id", "label", "row")
    )
