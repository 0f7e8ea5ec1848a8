"""The public data sets of the grid as Monoglot reads them, and the parts of their questions."""

import dataclasses
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.hinglish_files import LANGUAGE, convert, read_tsv, write_tsv
from benchmarks.static_base import static_base
from monoglot.generation.query_translation import by_lexicon, read_lexicon
from monoglot.identity import normalised
from monoglot.knowledge.split import places

ARABIC_ROWS = 5000
SYNTHETIC_PER_ROW = 5
_INDUCED = "lexicons/en_hinglish_induced.tsv"
_QUESTION = ("query_id", "text", "language", "label", "english")


@dataclass(frozen=True)
class Dataset:
    """Converted files.

    Attributes:
        name: of the data set.
        config: its monoglot.yaml.
        parts: query id -> part of the questions: test, validation, english.
        reported: the part that the tables are about.
        control: the part that stands for the English control; None: each question has its own.
        lexicon: from words as users write them to the knowledge base's language, if there is one.
    """

    name: str
    config: Path
    parts: Mapping[str, str]
    reported: str
    control: str | None
    lexicon: Path | None


def hinglish_top(data: Path, folder: Path) -> Dataset:
    """Hinglish-TOP: knowledge base and translations of the train split; asked: both others.

    All questions are one evaluation file, so that nothing of either is trained on.
    """
    asked = []
    for split in ("validation", "test"):
        files = convert(data, split, folder / split)
        asked.append(read_tsv(files.questions).with_columns(part=pl.lit(split)))
    questions = pl.concat(asked)
    write_tsv(questions.select(_QUESTION), folder / "questions.tsv")
    return Dataset(
        "hinglish_top",
        _config(_hinglish(files.knowledge_base, files.translations), folder),
        dict(questions.select("query_id", "part").iter_rows()),
        reported="test",
        control=None,
        lexicon=_lexicon(data, folder, source="hinglish", target="en"),
    )


def hinglish_lexicon(data: Path, folder: Path) -> Dataset:
    """Hinglish-TOP for a user whose translator is poor: a word lexicon, and no human Hinglish.

    Every English row is translated word by word; words that the lexicon lacks stay English.

    Raises:
        SystemExit: the lexicon is missing.
    """
    same = hinglish_top(data, folder)
    path = _lexicon(data, folder, source="en", target="hinglish")
    if path is None:
        raise SystemExit(f"{data.parent}: has no {_INDUCED}. benchmarks/README.md says its layout.")
    words = read_lexicon(path)
    rows = read_tsv(folder / "test" / "kb.tsv").select(
        "row_id",
        translation=pl.col("query").map_elements(
            lambda text: by_lexicon(text, words)[0], return_dtype=pl.String
        ),
    )
    write_tsv(rows, folder / "by_lexicon.tsv")
    config = _hinglish(folder / "test" / "kb.tsv", folder / "by_lexicon.tsv")
    return dataclasses.replace(same, name="hinglish_lexicon", config=_config(config, folder))


def hinglish_synthetic(data: Path, folder: Path) -> Dataset:
    """How many synthetic queries are enough: up to five for each row, beside its translation.

    The word lexicon stands in for the LLM: a translation has its likeliest words, a synthetic
    query words drawn by their scores. Both are labelled queries in a file, since no LLM wrote
    them. The base is a static-embedding model.
    """
    same = hinglish_lexicon(data, folder)
    drawn = _drawn_queries(read_tsv(folder / "test" / "kb.tsv"), _alternatives(data))
    write_tsv(drawn, folder / "drawn.tsv")
    config = {
        **_hinglish(folder / "test" / "kb.tsv", folder / "by_lexicon.tsv"),
        "training": {"path": str(folder / "drawn.tsv")},
        "base_model": str(static_base(folder / "static")),
    }
    return dataclasses.replace(same, name="hinglish_synthetic", config=_config(config, folder))


def hinglish_fewer(data: Path, folder: Path) -> Dataset:
    """The learning curve: Hinglish-TOP with a part of its human translations, in as many steps.

    Those of a smaller part are among those of a larger one.
    """
    return dataclasses.replace(hinglish_top(data, folder), name="hinglish_fewer")


def _drawn_queries(
    rows: pl.DataFrame, alternatives: Mapping[str, tuple[list[str], list[float]]]
) -> pl.DataFrame:
    """Distinct renderings of each row with words of the lexicon, drawn in proportion to scores."""
    rng = random.Random("synthetic")  # noqa: S311
    drawn = []
    for query, label in rows.select("query", "label").iter_rows():
        for _ in range(SYNTHETIC_PER_ROW):
            words = [
                rng.choices(*alternatives[word])[0] if word in alternatives else word
                for word in normalised(query).split()
            ]
            drawn.append((" ".join(words), label, LANGUAGE))
    schema = ["text", "label", "language"]
    return pl.DataFrame(drawn, schema=schema, orient="row").unique(maintain_order=True)


def _alternatives(data: Path) -> dict[str, tuple[list[str], list[float]]]:
    """English word -> what it may be in Hinglish, and the score of each."""
    words = read_tsv(data.parent / _INDUCED).select(
        "en", "hinglish", pl.col("score_sym").cast(pl.Float64)
    )
    by_word = words.group_by("en", maintain_order=True).agg("hinglish", "score_sym")
    return {word: (targets, scores) for word, targets, scores in by_word.iter_rows()}


def _hinglish(knowledge_base: Path, translations: Path) -> dict[str, Any]:
    return {
        "knowledge_base": {"path": str(knowledge_base)},
        "languages": [{"code": LANGUAGE, "name": "Hinglish", "translations": str(translations)}],
    }


def banking77_ar(data: Path, folder: Path) -> Dataset:
    """English Banking77, and Arabic queries labelled by hand, without a parallel English.

    `ARABIC_ROWS` of the Arabic train rows are learned from: those whose ids have the lowest hash.
    The English control is the test rows of the knowledge base's own source. The base model knows
    next to no Arabic and puts nearly all rows above the right one, so the margin of
    sentence-transformers' mining leaves 5 of 4,998 queries a negative: all that this peer learns
    from.
    """
    kb, queries, labels = (read_tsv(data / f"{name}.tsv") for name in ("kb", "queries", "labels"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = kb.filter(split="train").join(
        labels.select("label", "label_text"), on="label", how="left", maintain_order="left"
    )
    path = pl.concat_str("parent", pl.lit("/"), "label")
    write_tsv(
        rows.select("label", "label_text", row_id="kb_id", query="text", label_path=path),
        folder / "kb.tsv",
    )
    trained = queries.filter(split="train").with_columns(
        place=pl.Series(places(queries.filter(split="train")["qid"].to_list(), "benchmark"))
    )
    trained = trained.sort("place").head(ARABIC_ROWS).sort("qid")
    write_tsv(trained.select("text", "label", language=pl.lit("ar")), folder / "native.tsv")
    arabic = queries.filter(pl.col("split").is_in(["test", "dev"]))
    english = kb.filter(split="test")
    questions = pl.concat(
        [
            arabic.select(
                "text",
                "label",
                query_id="qid",
                language="lang",
                part=pl.col("split").replace({"dev": "validation"}),
            ),
            english.select(
                "text", "label", query_id="kb_id", language=pl.lit("en"), part=pl.lit("english")
            ),
        ],
        how="diagonal",
    ).with_columns(english=pl.lit(""))
    write_tsv(questions.select(_QUESTION), folder / "questions.tsv")
    config = {
        "knowledge_base": {"path": str(folder / "kb.tsv")},
        "training": {"path": str(folder / "native.tsv")},
    }
    return Dataset(
        "banking77_ar",
        _config(config, folder),
        dict(questions.select("query_id", "part").iter_rows()),
        reported="test",
        control="english",
        lexicon=None,
    )


def _lexicon(data: Path, folder: Path, *, source: str, target: str) -> Path | None:
    """The lexicon as Monoglot reads one, the best-scored translation of a word first."""
    induced = data.parent / _INDUCED
    if not induced.is_file():
        return None
    words = read_tsv(induced).with_columns(pl.col("score_sym").cast(pl.Float64))
    best = words.sort(source, "score_sym", target, descending=[False, True, False])
    path = folder / f"lexicon_{source}.tsv"
    # "act's" is two words to a reader that looks up what is left of a text without punctuation.
    are_words = [len(normalised(word).split()) == 1 for word in best[source]]
    single = best.filter(pl.Series(are_words))
    write_tsv(single.select(source=source, target=target), path)
    return path


DATASETS: dict[str, Callable[[Path, Path], Dataset]] = {
    "hinglish_top": hinglish_top,
    "hinglish_lexicon": hinglish_lexicon,
    "hinglish_synthetic": hinglish_synthetic,
    "hinglish_fewer": hinglish_fewer,
    "banking77_ar": banking77_ar,
}


def _config(config: dict[str, Any], folder: Path) -> Path:
    """Write the monoglot.yaml; its store lies beside it."""
    path = folder / "monoglot.yaml"
    whole = {
        "base_model": "offline-minilm",
        **config,
        "evaluation": {"path": str(folder / "questions.tsv")},
        "store": "store",
    }
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path
