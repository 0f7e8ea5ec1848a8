"""The tables that travel between stages: columns, types, keys and rules, by name.

Each table is a dataframely schema, so that a rule is an expression with a name, and `filter`
returns the good rows and, per bad row, the rules it breaks. Files that people give are checked by
`knowledge/` in these terms, with file, row and reason kept in a `Rejects` table.
"""

import dataframely as dy
import polars as pl


class KnowledgeBase(dy.Schema):
    """The rows that answer, in one language; one row a query."""

    row_id = dy.String(primary_key=True)
    query = dy.String(nullable=False, min_length=1)
    label = dy.String(nullable=False, min_length=1)
    label_path = dy.String(nullable=True)
    label_text = dy.String(nullable=True)
    answer = dy.String(nullable=True)


class Split(dy.Schema):
    """Which part of the knowledge base a row plays: index set or training set.

    `held_out` marks training rows whose translations are kept for evaluation; they train nothing.
    `untrained` marks the rows of labels that nothing is trained on (`split.untrained_labels`).
    """

    row_id = dy.String(primary_key=True)
    query = dy.String(nullable=False)
    label = dy.String(nullable=False)
    part = dy.Enum(["index", "training", "held_out", "untrained"], nullable=False)


class Queries(dy.Schema):
    """Queries with a label in any language: anchors to train on, or questions to evaluate on.

    `origin`: native queries were labelled by people; `user` queries are people's own, too, but the
    LLM chose their label, the row in `source_row_id` and the English wording.
    """

    query_id = dy.String(primary_key=True)
    text = dy.String(nullable=False, min_length=1)
    language = dy.String(nullable=False)
    label = dy.String(nullable=False)
    origin = dy.Enum(["native", "translated", "synthetic", "english", "user"], nullable=False)
    source_row_id = dy.String(nullable=True)
    english = dy.String(nullable=True)


class UserQueries(dy.Schema):
    """Real user queries without a label; `times`: how often one was asked, near copies included."""

    query_id = dy.String(primary_key=True)
    text = dy.String(nullable=False, min_length=1)
    language = dy.String(nullable=False)
    times = dy.Int64(nullable=False, min=1)


class Gaps(UserQueries):
    """User queries that the knowledge base does not answer, as the LLM judged."""

    english = dy.String(nullable=True)


class Candidates(dy.Schema):
    """The rows that may answer a user query: of each of its nearest labels the nearest row."""

    query_id = dy.String(primary_key=True)
    row_id = dy.String(primary_key=True)
    query = dy.String(nullable=False)
    label = dy.String(nullable=False)
    label_path = dy.String(nullable=True)
    label_text = dy.String(nullable=True)


class Proposals(dy.Schema):
    """A row of another label that is easily taken for what an anchor asks: its hard negative."""

    query_id = dy.String(primary_key=True)
    negative_row = dy.String(nullable=False)


class Rejects(dy.Schema):
    """What was not used, and why: nothing is dropped silently."""

    file = dy.String(nullable=False)
    row = dy.Int64(nullable=True)
    column = dy.String(nullable=True)
    value = dy.String(nullable=True)
    rule = dy.String(nullable=False)
    reason = dy.String(nullable=False)


class Triplets(dy.Schema):
    """Anchor, positive and negatives of one epoch (arXiv 2506.02527, Algorithm 1).

    `probabilities[i]` is the probability with which `negative_rows[i]` was drawn, given the ones
    before it in the list: what a sampler without replacement can be checked against.
    """

    epoch = dy.Int32(primary_key=True)
    anchor = dy.String(primary_key=True)
    positive_row = dy.String(nullable=False)
    negative_rows = dy.List(dy.String(nullable=False), nullable=False)
    probabilities = dy.List(dy.Float64(nullable=False), nullable=False)
    strategy = dy.String(nullable=False)


class Outcomes(dy.Schema):
    """What one system answered to each evaluation question.

    A question whose English wording is known has a second row with `control` set: the same
    question asked in English, which shows what the system loses to the language alone. `group`
    names the English source (or the text itself): what a bootstrap resamples, since several
    wordings of one source, or copies of one question, are not independent. `known`: the knowledge
    base has the label; a question whose label it lacks is a miss. `rank` is the place of the label
    among the distinct labels, 0 where it is not among the first ten. `top_score` and `top_share`
    are of the first label: its nearest row's score, and its share of the votes.
    """

    query_id = dy.String(primary_key=True)
    control = dy.Bool(primary_key=True)
    language = dy.String(nullable=False)
    text = dy.String(nullable=False)
    label = dy.String(nullable=False)
    group = dy.String(nullable=False)
    known = dy.Bool(nullable=False)
    rank = dy.Int32(nullable=False, min=0, max=10)
    top_labels = dy.List(dy.String(nullable=False), nullable=False)
    top_row = dy.String(nullable=True)
    top_query = dy.String(nullable=True)
    top_score = dy.Float32(nullable=True)
    top_share = dy.Float32(nullable=True)


class Findings(dy.Schema):
    """What the diagnostics saw; the fields are told in `learning.diagnostics.Finding`."""

    check = dy.String(primary_key=True)
    verdict = dy.Enum(["found", "fine", "not checked"], nullable=False)
    seen = dy.String(nullable=False)
    means = dy.String(nullable=False)
    action = dy.String(nullable=False)
    examples = dy.List(
        dy.Struct({name: dy.String(nullable=False) for name in ("text", "label", "other")}),
        nullable=False,
    )
    count = dy.Int64(nullable=False, min=0)


def empty(schema: type[dy.Schema]) -> pl.DataFrame:
    """A table of the schema without rows, as a plain frame."""
    return pl.DataFrame(schema.create_empty())
