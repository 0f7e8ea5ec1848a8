"""Defects of every kind, planted by rule in good translations: what the quality gates must catch.

Sentences in other languages and the ways in which models talk about the task are no rule; they lie
in `defects/`, written for this benchmark, apart from those that thresholds were tuned on.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from monoglot.generation.replies import clean_text

_DEFECTS = Path(__file__).parent / "defects"
_PER_CLASS = 200
_SPELT_UP_TO = 12
_ROW_ID = "r3f9a"
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_DEVANAGARI = str.maketrans(_LATIN, "अबचदएफगहइजकलमनओपकरसतउववषयज")
_ARABIC = str.maketrans(_LATIN, "ابكدهفغحيجكلمنوبقرستعفوخيز")
_NOTHING = ("", "...", "?!", "\u2014", "\U0001f44d", "\u200b", "-", "\u2026\u2026", "!!!", "\u0964")
_URLS = ("https://acme.com/help", "www.acme.co.in/order?id=x", "http://bit.ly/abc", "help@acme.com")
_PLACEHOLDERS = ("{order_id}", "{{name}}", "%s", "<CITY>", "[DATE]", "%(count)s")
_TERMS = ("SIM swap", "Acme+", "FlexiPay", "Prime Gold")

Pair = tuple[str, str]  # text, source
Change = Callable[[int, str, str], Pair]


@dataclass(frozen=True)
class Planted:
    """Rows with one kind of defect.

    Attributes:
        defect: its name.
        rules: the gates that are meant to catch it.
        pairs: text and source of each row.
    """

    defect: str
    rules: frozenset[str]
    pairs: list[Pair]


def planted_defects(good: pl.DataFrame, seed: int = 0) -> Iterator[Planted]:
    """Every class of defect, planted in these rows (columns text, english, label)."""
    rows = list(good.select("text", "english", "label").iter_rows())
    random.Random(seed).shuffle(rows)  # noqa: S311
    long = [row for row in rows if len(re.findall(r"\w+", row[1])) >= 4]
    pairs, long_pairs = [row[:2] for row in rows], [row[:2] for row in long]
    yield _made("empty", "empty", pairs, lambda n, _t, e: (_NOTHING[n % len(_NOTHING)], e))
    yield _made("copy of the source", "copy_of_source", long_pairs, _copy)
    yield _other_row_in_english(long)
    yield _made("Devanagari", "wrong_script", pairs, _in_letters(_DEVANAGARI))
    yield _made("Arabic script", "wrong_script", pairs, _in_letters(_ARABIC))
    yield from _other_languages(pairs)
    yield _made("cut to a quarter", "length_ratio", long_pairs, _cut)
    yield _run_on(long_pairs)
    yield _made("last word repeated", "repetition length_ratio", pairs, _stuck)
    yield from _numbers(pairs)
    yield _lost("web or e-mail address lost", "address_lost", pairs, _URLS)
    yield _lost("placeholder lost", "placeholder_lost", pairs, _PLACEHOLDERS)
    yield _lost("glossary term lost", "glossary_lost", pairs, _TERMS)
    yield _talk(pairs)


def glossary() -> tuple[str, ...]:
    """The terms that `glossary term lost` is about."""
    return _TERMS


def written(name: str, use: str = "planted") -> pl.DataFrame:
    """Rows of a file in `defects/` for this use: tuning or planted."""
    path = _DEFECTS / f"{name}.tsv"
    return pl.read_csv(path, separator="\t", quote_char=None).filter(pl.col("use") == use)


def _made(defect: str, rules: str, pairs: list[Pair], change: Change) -> Planted:
    made = [change(number, *pair) for number, pair in enumerate(pairs[:_PER_CLASS])]
    return Planted(defect, frozenset(rules.split()), made)


def _in_letters(letters: dict[int, int]) -> Change:
    return lambda _number, text, source: (text.lower().translate(letters), source)


def _cut(_: int, text: str, source: str) -> Pair:
    return text[: len(text) // 4], source


def _copy(number: int, _: str, source: str) -> Pair:
    changed = (source, source.upper() + "!", source.capitalize() + ".", source.replace(" ", "  "))
    return changed[number % len(changed)], source


def _other_row_in_english(rows: list[tuple[str, str, str]]) -> Planted:
    """The English of another row of the label: good English, not the source's."""
    made = []
    for number, (_, source, label) in enumerate(rows):
        others = rows[number + 1 :] + rows[:number]
        same = [english for _, english, own in others if own == label and english != source]
        made += [(english, source) for english in same[:1]]
    return Planted("English instead", frozenset({"not_translated"}), made[:_PER_CLASS])


def _other_languages(pairs: list[Pair]) -> Iterator[Planted]:
    for (code,), part in written("other_languages").group_by("language", maintain_order=True):
        if code in ("fa", "ur"):
            continue  # for Arabic
        made = [(text, pairs[n % len(pairs)][1]) for n, text in enumerate(part["text"])]
        yield Planted(f"in {code}", frozenset({"wrong_language"}), made)


def _run_on(pairs: list[Pair]) -> Planted:
    """The text goes on with those of three other rows."""
    texts = [text for text, _ in pairs]
    made = [
        (" ".join(texts[(number + step) % len(texts)] for step in range(4)), source)
        for number, (_, source) in enumerate(pairs[:_PER_CLASS])
    ]
    return Planted("runs on into other rows", frozenset({"length_ratio", "number_changed"}), made)


def _stuck(_: int, text: str, source: str) -> Pair:
    last = re.findall(r"[^\W\d]+", text)[-1]
    return f"{text} " + " ".join([last] * 12), source


def _numbers(pairs: list[Pair]) -> Iterator[Planted]:
    changed: list[Pair] = []
    lost: dict[bool, list[Pair]] = {True: [], False: []}
    for text, source in pairs:
        shared = [n for n in re.findall(r"\d+", text) if n in re.findall(r"\d+", source)]
        if not shared:
            continue
        number = shared[0]
        alone = rf"(?<!\d){number}(?!\d)"
        changed.append((re.sub(alone, str(int(number) + 3), text, count=1), source))
        lost[int(number) > _SPELT_UP_TO].append((re.sub(alone, "", text), source))
    number_rules = frozenset({"number_lost", "number_changed"})
    yield Planted("number changed", number_rules, changed[:_PER_CLASS])
    yield Planted("number above 12 lost", number_rules, lost[True][:_PER_CLASS])
    yield Planted("number up to 12 lost", number_rules, lost[False][:_PER_CLASS])


def _lost(defect: str, rule: str, pairs: list[Pair], parts: tuple[str, ...]) -> Planted:
    """The source has a part at its end, the text has none of it, or half of it."""

    def change(number: int, text: str, source: str) -> Pair:
        part = parts[number % len(parts)]
        return (f"{text} {part[: len(part) // 2]}" if number % 2 else text), f"{source} {part}"

    return _made(defect, rule, pairs, change)


def _talk(pairs: list[Pair]) -> Planted:
    made = []
    for number, template in enumerate(written("meta_texts")["text"]):
        text, source = pairs[number % len(pairs)]
        filled = template.replace("\\n", "\n").replace("{t}", text).replace("{e}", source)
        made.append((clean_text(filled.replace("{id}", _ROW_ID)) or "", source))
    return Planted("talk about the task", frozenset({"meta_text"}), made)
