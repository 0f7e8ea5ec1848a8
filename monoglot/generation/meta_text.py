r"""`is_meta_text`: text about the task instead of the task's result, and what is left of a reply.

Each cue counts only where the source does not have it: a knowledge base about translations, or a
row that quotes JSON, talks like that itself. Brackets, quotation marks and the like that a
translation adds are cues as well; a query without a source may have its own.

On the 2,993 human train rows of Hinglish-TOP all cues together reject none.
"""

import polars as pl

# Cues that no query has, whether there is a source to compare with or not.
_ALWAYS = {
    "introduction": r"(?i)\bhere(?:'s| is| are) (?:the|your|a|an|my|some)\b"
    r".{0,40}\b(?:translations?|quer(?:y|ies)|version)\b"
    r"|\byeh? raha (?:aapka )?(?:translation|anuva)",
    "label": r"(?i)^\W*(?:translat(?:ion|ed text|ed|ed query)|hinglish|output|answer|query"
    r"|assistant|user|anuva+d)\W{0,2}\s*[:=]\s",
    "assistant": r"(?i)\bas an? (?:ai|large language|language model)\b|\bjust an ai\b"
    r"|\bi(?:'m| am) (?:sorry|unable|not able)\b.{0,60}\b(?:translat|assist|help|compl|set|access)"
    r"|\bi (?:can(?:no|')t|cannot) (?:translate|assist|help|comply|fulfil|access)"
    r"|\bmain (?:sirf )?(?:ek|koi) (?:ai|language model)\b",
    "prompt": r"(?i)\b(?:system prompt|previous instructions|target language|data to translate)\b"
    r"|\banswer with json\b|\btranslate the following\b|\bbcp ?47\b",
    "json": r"\"\s*[:}\]]|^\s*[{\[]\s*[\"{]|\\[nu\"]|^\W*(?i:id|text|rows|queries)[\"']?\s*[:=]",
    "tags": r"```|</?(?:text|row|rows|translation|s|query|answer)\b[^>]*>|<\||\[/?INST\]|\*\*",
    "nothing": r"(?i)^\W*(?:n/?a|null|none|undefined|todo|nan|tbd)\W*$",
}
# Cues that count where there is a source, and it lacks them.
_ADDED = {
    "task": r"(?i)\btranslat|\btransliterat|\bromani[sz]ed|\bhinglish\b|\banuva+d"
    r"|\blanguage model\b|\b(?:an?|ek) ai\b|\bjson\b|\binformal\b|\balternatively\b"
    r"|\bliteral(?:ly)?\b|\bquery\b|\bspeakers?\b|\b(?:search )?queries\b",
    "lead": r"(?i)^\W*(?:sure|certainly|of course|okay|absolutely|got it|no problem|zaroor|bilkul)"
    r"\s*[!,.:]|^\W*(?:here(?:'s| is| are| you go| it is)|yeh? raha|(?:ye )?lijiye)\b"
    r"|^\W*(?:option \d|row \w+|dhyan dein)\b",
    "added_label": r"(?i)^\W*(?:[\p{L}'-]+ ){0,3}(?:version|result|response|reply|text|target"
    r"|source|original|input|english|hindi|note|system|uttar|final|mein|hai|be)\W{0,2}\s*[:=-]\s",
    "closing": r"(?i)\b(?:let me know|hope (?:this|that|it) helps|feel free|happy to help"
    r"|umeed hai|please (?:provide|note|specify)|could you please provide|more context)\b",
    "refusal": r"(?i)\bi(?:'m| am)? (?:sorry|unable|not able|cannot|can't|do not have|don't have)\b"
    r"|\bsorry, (?:i|but)\b|^\W*(?:maaf|kshama) kar?\w*\b.*\bnahin?\b|^\W*(?:maaf|kshama) ki",
    "comment": r"(?i)\bnote\s*(?::|that\b)|\bi(?: have|'ve)? kept\b|\bwhich means\b|\bmatlab hai\b"
    r"|\bya+ni\b|\bthis (?:text|row|query|sentence|phrase)\b|\bappears to be\b|\bsame meaning\b",
    "brackets": r"[{}\[\]()<>|`]",
    "quotation": r"[\"\u201c\u201d\u00ab\u00bb]|^['\u2018].*['\u2019]\W*$",
    "mark": r"^\s*(?:[#*>-]+|\(?\d{1,2}[.)])\s|->|=>|\u2192|\s[=/]\s|\p{L}\s?:\s",
    "row_id": r"\br[0-9a-f]{4,}\b",
}


def is_meta_text(text: pl.Expr, source: pl.Expr) -> pl.Expr:
    """True for text about the task; `source` may be null."""
    told = source.fill_null("")
    always = [text.str.contains(cue) & ~told.str.contains(cue) for cue in _ALWAYS.values()]
    added = [text.str.contains(cue) & ~told.str.contains(cue) for cue in _ADDED.values()]
    return pl.any_horizontal(*always) | (source.is_not_null() & pl.any_horizontal(*added))
