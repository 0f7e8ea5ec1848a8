"""What may be wrong with labels: near-twins, labels nobody has, texts under several of them."""

import polars as pl

from monoglot.identity import all_normalised, normalised

_LABELS_SHOWN = 5
_SHOWN = 3


def alike_labels(labels: pl.Series) -> list[list[str]]:
    """Labels that are one but for case, punctuation and invisible characters, in groups."""
    names = labels.unique().sort()
    groups = (
        pl.DataFrame({"name": names, "folded": all_normalised(names)})
        .group_by("folded", maintain_order=True)
        .agg("name")
    )
    return [group for group in groups["name"].to_list() if len(group) > 1]


def lacking_labels(queries: pl.DataFrame, rows: pl.DataFrame, what: str, so: str) -> str | None:
    """A warning about queries whose label the knowledge base lacks, or None.

    A label that is one of the knowledge base's but for case, punctuation or invisible characters
    is shown with it.

    Args:
        queries: with a column label.
        rows: with a column label.
        what: the name of the queries.
        so: what becomes of those.
    """
    known = rows["label"].unique().sort()
    lacking = queries.filter(~pl.col("label").is_in(known.implode()))
    if lacking.is_empty():
        return None
    names = lacking["label"].unique().sort().to_list()
    folded = dict(zip(all_normalised(known), known, strict=True))
    meant = {name: folded[normalised(name)] for name in names if normalised(name) in folded}
    hint = "; ".join(f"{name!r} is {meant[name]!r} there" for name in list(meant)[:_SHOWN])
    return (
        f"{lacking.height} of {queries.height} {what} have a label that the knowledge base lacks "
        f"({lacking.height / queries.height:.0%}; {len(names)} labels: "
        f"{', '.join(names[:_LABELS_SHOWN])}{', ...' if len(names) > _LABELS_SHOWN else ''}); {so}"
        + (f". But for case, punctuation or invisible characters {hint}" if hint else "")
    )


def texts_of_several(queries: pl.DataFrame) -> pl.DataFrame:
    """Texts, without case and punctuation, that stand under several labels.

    Args:
        queries: with columns text and label.

    Returns:
        Columns folded and labels (sorted), the texts with the most labels first.
    """
    return (
        queries.select("label", folded=all_normalised(queries["text"]))
        .group_by("folded")
        .agg(pl.col("label").unique().sort().alias("labels"))
        .filter(pl.col("labels").list.len() > 1)
        .sort(-pl.col("labels").list.len().cast(pl.Int64), "folded")
    )


def several_labels(
    queries: pl.DataFrame, what: str, so: str, rows: pl.DataFrame | None = None
) -> str | None:
    """A warning about queries whose text stands under several labels, or None.

    Args:
        queries: with columns text and label.
        what: the name of the queries.
        so: what follows from it.
        rows: the knowledge base (query, label), which may say otherwise; None: not looked at.
    """
    said = queries.select("text", "label")
    if rows is not None:
        said = pl.concat([said, rows.select("label", text="query").select("text", "label")])
    folded = all_normalised(queries["text"])
    several = texts_of_several(said).filter(pl.col("folded").is_in(folded.implode()))
    if several.is_empty():
        return None
    torn = folded.is_in(several["folded"].implode()).sum()
    shown = [f"{text!r} ({', '.join(labels)})" for text, labels in several.head(_SHOWN).iter_rows()]
    return (
        f"{torn} of {queries.height} {what} have a text that stands under several labels "
        f"({several.height} texts), such as {'; '.join(shown)}: {so}"
    )
