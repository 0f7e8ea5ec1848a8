"""`code_mixing_index`: how much a text mixes the target language with the knowledge base's.

A word counts as English (say: as of the knowledge base's language) if the text's own source has it,
or the knowledge base, or a list of English word frequencies; else it belongs to the matrix
language, which gives the text its grammar and cannot be listed as spelt on phones. Words that are
both, such as the Hinglish `to` and `me`, are English only beside a neighbour that they have in the
source, too: "she wants *to* go", but "delhi *me* weather kaisa hai". See `words.py`.

Numbers, single letters, addresses and names belong to no language. A name is a word that the
knowledge base writes with a capital inside its sentences; one that is written in small letters
throughout counts as English, and so does every name.

All of it is joins over one row a word: 30,000 texts take about a second.
"""

import polars as pl

from monoglot.config import LanguageConfig
from monoglot.generation.scripts import script_classes
from monoglot.generation.words import NO_NAMES, english_like
from monoglot.spelling import NO_WORDS

MATRIX, ENGLISH, OTHER = "matrix", "english", "other"
Tag = pl.Enum([MATRIX, ENGLISH, OTHER])

_WORD = "[\\p{L}\\p{M}\\p{N}]+(?:['\u2019][\\p{L}\\p{M}]+)*"
_NUMBER = r"^\p{N}+\p{L}{0,2}$"
# A knowledge base of titles ("How Do I Pay") tells nothing about names: such rows are left out.
_MOST_CAPITALS = 0.5
# Share of a word's places with a capital from which on it is a name. A quarter would find more
# names that people type in small letters, but also make names of "new", "airport" and "bank".
_NAME_SHARE = 0.5


def tag_words(
    rows: pl.DataFrame, language: LanguageConfig, kb_language: str, knowledge: pl.Series
) -> pl.DataFrame:
    """The language of each word.

    Args:
        rows: columns text and english (the source; null where there is none).
        language: the target.
        kb_language: BCP 47 code of the sources.
        knowledge: the knowledge base's queries.

    Returns:
        Columns row (place in `rows`), place (in the text), token and tag, in that order.
    """
    tokens = _tokens(rows["text"])
    sources = _tokens(rows["english"])
    known = _tokens(knowledge)
    kinds = english_like(tokens["word"], language, kb_language)
    evidence = (
        tokens.join(kinds, on="word", how="left")
        .join(_names(pl.concat([known, sources])), on="word", how="left")
        .with_columns(
            known=pl.col("word").is_in(known["word"].unique().implode()),
            sourced=_is_among(tokens, sources, known, "word"),
            beside=_is_among(tokens, sources, known, "word", "next")
            | _is_among(tokens, sources, known, "last", "word"),
        )
    )
    tags = evidence.with_columns(_tag(language, kb_language).cast(Tag).alias("tag"))
    return tags.sort("row", "place").select("row", "place", "token", "tag")


def code_mixing_index(
    rows: pl.DataFrame, language: LanguageConfig, kb_language: str, knowledge: pl.Series
) -> pl.DataFrame:
    """The Code-Mixing Index of each text, and its share of English.

        CMI = 100 * (1 - max(matrix, english) / (n - u)),  0 where n = u

    n is the number of words, u of those without a language. 0 is one language alone, 50 is half
    and half, the most that two languages can have. Mostly English is as mixed as mostly Hindi.

    Source: Das & Gambäck, Identifying Languages at the Word Level in Code-Mixed Indian Social Media
    Text (ICON 2014, aclanthology.org/W14-5152).

    Args:
        rows: columns text and english (the source; null where there is none).
        language: the target.
        kb_language: BCP 47 code of the sources.
        knowledge: the knowledge base's queries.

    Returns:
        Columns cmi (0 to 50) and english_share (0 to 1), a row for each of `rows`.
    """
    counts = (
        tag_words(rows, language, kb_language, knowledge)
        .group_by("row")
        .agg(*((pl.col("tag") == tag).sum().alias(tag) for tag in (MATRIX, ENGLISH)))
    )
    told = pl.col(MATRIX) + pl.col(ENGLISH)
    return (
        pl.DataFrame({"row": pl.int_range(rows.height, eager=True)})
        .join(counts, on="row", how="left", maintain_order="left")
        .select(
            cmi=pl.when(told > 0)
            .then(100 * (1 - pl.max_horizontal(MATRIX, ENGLISH) / told))
            .otherwise(0.0),
            english_share=pl.when(told > 0).then(pl.col(ENGLISH) / told).otherwise(0.0),
        )
    )


def _tokens(texts: pl.Series) -> pl.DataFrame:
    """One row a word: row, place, token, word (lower case), and the words before and after it."""
    plain = pl.col("text").str.normalize("NFC").str.replace_all(NO_WORDS, " ")
    return (
        pl.DataFrame({"text": texts.cast(pl.String)})
        .with_row_index("row")
        .select("row", token=plain.str.extract_all(_WORD))
        .explode("token")
        .filter(pl.col("token").is_not_null())
        .with_columns(
            place=pl.int_range(pl.len()).over("row"),
            word=pl.col("token").str.to_lowercase().str.replace_all("\u2019", "'"),
        )
        .with_columns(
            last=pl.col("word").shift(1).over("row"), next=pl.col("word").shift(-1).over("row")
        )
    )


def _names(tokens: pl.DataFrame) -> pl.DataFrame:
    """Words that often stand with a capital after the first place of a sentence."""
    capital = pl.col("token").str.contains(r"^\p{Lu}")
    inside = tokens.with_columns(capital=capital).filter(
        (pl.col("place") > 0) & (capital.mean().over("row") <= _MOST_CAPITALS)
    )
    return (
        inside.group_by("word")
        .agg((pl.col("capital").mean() >= _NAME_SHARE).alias("name"))
        .with_columns(pl.col("name") & ~pl.col("word").is_in(list(NO_NAMES)))
    )


def _is_among(
    tokens: pl.DataFrame, sources: pl.DataFrame, known: pl.DataFrame, *columns: str
) -> pl.Series:
    """Whether a text's source has the word, or the pair; where it has no source, the whole base."""
    names = ["word", "next"][: len(columns)]
    with_source = tokens.join(sources.select("row").unique(), on="row", how="semi")
    own = with_source.join(sources, left_on=["row", *columns], right_on=["row", *names], how="semi")
    without = tokens.join(sources.select("row").unique(), on="row", how="anti")
    any_row = without.join(known, left_on=list(columns), right_on=names, how="semi")
    found = pl.concat([own, any_row]).select("row", "place", found=pl.lit(value=True))
    joined = tokens.join(found, on=["row", "place"], how="left", maintain_order="left")
    return joined["found"].fill_null(value=False)


def _tag(language: LanguageConfig, kb_language: str) -> pl.Expr:
    """The tag of a word, by what is known of it."""
    word = pl.col("word")
    single = (word.str.len_chars() == 1) & ~word.is_in(["a", "i"]) & word.str.contains(r"\p{Latin}")
    is_english = pl.col("sourced") | pl.col("common") | pl.col("known")
    target, base = script_classes(language), script_classes(kb_language)
    if target and base and set(target) != set(base):  # the script tells the languages apart
        inside = "".join(rf"\p{{{name}}}" for name in target)
        is_english = ~word.str.contains(f"[{inside}]")
    return (
        pl.when(word.str.contains(_NUMBER))
        .then(pl.lit(OTHER))
        .when(pl.col("twin"))
        .then(
            pl.when(pl.col("beside") | (pl.col("loose") & pl.col("sourced")))
            .then(pl.lit(ENGLISH))
            .otherwise(pl.lit(MATRIX))
        )
        .when(single | (pl.col("name").fill_null(value=False) & pl.col("sourced")))
        .then(pl.lit(OTHER))
        .when(is_english)
        .then(pl.lit(ENGLISH))
        .otherwise(pl.lit(MATRIX))
    )
