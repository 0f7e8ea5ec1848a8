"""`Redactor`: personal data stays here; the LLM sees a placeholder in its place.

    redacted = Redactor(config.redaction).redact("call me on +91 98765 43210")
    redacted.text                                  # "call me on {{phone_1}}": what may be sent
    redacted.restored("mujhe {{phone_1}} par call karo")      # the number is back in its place

What is found: e-mail addresses (also as people dictate them), UPI ids, IBANs, payment cards, phone
numbers, bank accounts and other long digit runs, tax and social security numbers, and the user's
own patterns. What is left alone: amounts, dates, times, order and tracking numbers, since a
translator needs them as they are and they name no person by themselves.

Digits are read in every script. A value that occurs twice in a text has one placeholder, numbers
start at 1 in each text: the ledger never learns whether two users gave the same address. Text with
nothing to hide is sent, and keyed, as it always was.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from monoglot.generation import personal_numbers as numbers
from monoglot.generation.replies import Problem
from monoglot.generation_config import RedactionConfig

# Free mail hosts and payment handles that people write without the ending.
_BARE_HOSTS = (
    "gmail|yahoo|ymail|hotmail|outlook|rediffmail|icloud|protonmail|"  # mail
    "ok(?:axis|sbi|icici|hdfcbank)|paytm|ybl|ibl|axl|upi|apl|sbi|icici|hdfcbank|axisbank|"
    "kotak|airtel|jio|yapl|waaxis|wahdfcbank|waicici|wasbi|fam|pingpay|idfcbank|pnb|barodampay"
)
_HOSTS = "gmail|googlemail|yahoo|ymail|hotmail|outlook|live|rediffmail|icloud|protonmail"
_LOCAL = r"[^\s@<>(){}\[\]|,;:\"'`،؛]{1,64}"
_DOMAIN = r"[\w\u0900-\u097f-]+(?:\.[\w\u0900-\u097f-]+)+"
# Each part is bounded and begins where no part of it is before: a text of hyphens would otherwise
# be read anew from each of them.
_EMAIL = re.compile(
    rf"{_LOCAL}@(?:{_DOMAIN}|(?:{_BARE_HOSTS})\b(?: dot \w+)?)"
    # "rahul . sharma @ gmail . com", as phones and speech-to-text space it
    rf"|(?<![\w.+-])[\w.+-]{{1,64}} ?@ ?(?:{_HOSTS}) ?\. ?"
    rf"(?:com|in|co ?\. ?(?:in|uk)|net|org|ae|sa)\b"
    # "rahul dot sharma at gmail dot com", "rahul [at] firm [dot] in", "rahul[at]gmail.com"
    rf"|(?<![\w+-])[\w+-]{{1,64}}(?: (?:dot|underscore) [\w+-]{{1,64}}){{0,8}}"
    rf"[ \[(]{{1,3}}at[\])]?[ \[(]{{1,3}}"
    rf"(?:{_HOSTS})[ \[(]{{1,3}}dot[\])]?[ \[(]{{0,3}}[a-z]{{2,}}\b"
    rf"|(?<![\w.+-])[\w.+-]{{1,64}} ?[\[(] ?at ?[\])] ?[\w-]{{1,64}}"
    rf"(?: ?[\[(] ?dot ?[\])] ?|\.)[a-z]{{2,}}\b",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"(?ai:\{\{\s*([a-z][a-z0-9_]*_\d+)\s*\}\})")
_MAY_HOLD = re.compile(r"[\d@]|\bat\b", re.IGNORECASE)

Span = tuple[int, int]
Finder = Callable[[str], Iterable[Span]]


@dataclass(frozen=True)
class Redacted:
    """One or more texts as they may be sent, and what to put back.

    Attributes:
        texts: in their order; texts that were redacted together share their placeholders.
        values: placeholder -> what stood in its place; empty where there was nothing to hide.
    """

    texts: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def text(self) -> str:
        """The text, where there is one."""
        return self.texts[0]

    def restored(self, reply: str) -> str:
        """A reply with every known placeholder replaced, however it is spaced or capitalised."""
        if not self.values:
            return reply
        return _PLACEHOLDER.sub(lambda found: self.values.get(_name(found[1]), found[0]), reply)

    def problem(self, reply: str, *, must_keep: bool = True) -> Problem | None:
        """Why a reply, before it is restored, cannot be used; None where it can.

        Args:
            reply: as the model gave it.
            must_keep: each placeholder of the first text must be in the reply (a translation).
        """
        in_reply, in_texts = _names_in(reply), set().union(*map(_names_in, self.texts))
        lost = _names_in(self.text) & self.values.keys() - in_reply if must_keep else ()
        if lost:
            names = ", ".join(_braced(name) for name in sorted(lost))
            return Problem("placeholder_lost", f"the reply left out {names}, which hides a value")
        # A name that we did not send hides nothing: there is no telling what the model meant.
        made_up = {name for name in in_reply - in_texts if _is_ours(name, self.values)}
        if made_up:
            names = ", ".join(_braced(name) for name in sorted(made_up))
            return Problem("placeholder_invented", f"the reply holds {names}, which was not sent")
        return None


class Redactor:
    """Finds what is to stay here. Build one per run: patterns are compiled once."""

    def __init__(self, config: RedactionConfig) -> None:
        """Prepare to redact by a config, whose own patterns were checked when it was read."""
        own = [(name, _finder(re.compile(text))) for name, text in config.patterns.items()]
        self._own: tuple[tuple[str, Finder], ...] = tuple(own)
        self._regions = config.phone_regions
        self._hides_users, self._hides_rows = config.user_queries, config.knowledge_base

    @classmethod
    def of_rows(cls, config: RedactionConfig) -> "Redactor | None":
        """The redactor of knowledge-base rows; None where they are sent as they are."""
        return cls(config) if config.knowledge_base else None

    def redact(self, *texts: str, beside: Iterable[str] = ()) -> Redacted:
        """Texts of one row with their personal data replaced by shared placeholders.

        Args:
            texts: what is redacted.
            beside: texts that are sent with them unchanged, so that no placeholder is used twice.
        """
        spans = [self._spans(text) for text in texts]
        if not any(spans):
            return Redacted(texts, {})
        taken = set().union(*map(_names_in, (*texts, *beside)))
        names: dict[str, str] = {}  # by value
        for text, found in zip(texts, spans, strict=True):
            for start, end, kind in found:
                value = text[start:end]
                names[value] = names.get(value) or _free_name(kind, taken)
        sent = tuple(_replaced(text, s, names) for text, s in zip(texts, spans, strict=True))
        return Redacted(sent, {name: value for value, name in names.items()})

    def redact_with_rows(self, user_query: str, *rows: str) -> Redacted:
        """A user's query and texts of the knowledge base beside it, each kind by its own switch."""
        if self._hides_users and self._hides_rows:
            return self.redact(user_query, *rows)
        if self._hides_users:
            redacted = self.redact(user_query, beside=rows)
            return Redacted((*redacted.texts, *rows), redacted.values)
        if self._hides_rows:
            redacted = self.redact(*rows, beside=[user_query])
            return Redacted((user_query, *redacted.texts), redacted.values)
        return Redacted((user_query, *rows), {})

    def redact_all(self, texts: Iterable[str]) -> list[Redacted]:
        """Each text by itself."""
        return [self.redact(text) for text in texts]

    def _spans(self, text: str) -> list[tuple[int, int, str]]:
        """What is found, in order and without overlap: start, end, kind."""
        found: list[tuple[int, int, str]] = []
        plain = numbers.folded(text)
        for kind, finder in self._own:
            plain = _mark(found, kind, finder(text), plain)
        if not _MAY_HOLD.search(plain) and not numbers.SPOKEN.search(plain):
            return sorted(found)
        plain = _mark(found, "email", _finder(_EMAIL)(plain), plain)
        for kind, finder in numbers.FINDERS:
            plain = _mark(found, kind, finder(plain), plain)
        for kind, start, end in numbers.find_numbers(plain, self._regions):
            found.append((start, end, kind))
        return sorted(found)


def _finder(pattern: re.Pattern[str]) -> Finder:
    return lambda text: (found.span() for found in pattern.finditer(text) if found[0])


def _mark(found: list[tuple[int, int, str]], kind: str, spans: Iterable[Span], plain: str) -> str:
    """Note spans that nothing earlier has taken, and blank them for what is looked for next."""
    for start, end in list(spans):
        if numbers.BLANK not in plain[start:end]:
            found.append((start, end, kind))
            plain = plain[:start] + numbers.BLANK * (end - start) + plain[end:]
    return plain


def _replaced(text: str, spans: Sequence[tuple[int, int, str]], names: Mapping[str, str]) -> str:
    """A text with its spans as placeholders, and found values wherever else they occur.

    A number that was told by the words before it may stand elsewhere without them.
    """
    longest = sorted(names, key=len, reverse=True)
    elsewhere = re.compile("|".join(map(re.escape, longest)))

    def put(value: str) -> str:
        return _braced(names[value])

    def pieces() -> Iterator[str]:
        at = 0
        for start, end, _kind in spans:
            yield elsewhere.sub(lambda found: put(found[0]), text[at:start])
            yield put(text[start:end])
            at = end
        yield elsewhere.sub(lambda found: put(found[0]), text[at:])

    return "".join(pieces())


def _free_name(kind: str, taken: set[str]) -> str:
    number = 1
    while f"{kind}_{number}" in taken:
        number += 1
    taken.add(f"{kind}_{number}")
    return f"{kind}_{number}"


def _is_ours(name: str, values: Mapping[str, str]) -> bool:
    kind = name.rpartition("_")[0]
    return kind in BUILT_IN or any(kind == known.rpartition("_")[0] for known in values)


def _names_in(text: str) -> set[str]:
    return {_name(name) for name in _PLACEHOLDER.findall(text)} if "{{" in text else set()


def _name(written: str) -> str:
    return written.lower()


def _braced(name: str) -> str:
    return "{{" + name + "}}"


BUILT_IN = frozenset(("email", "phone", *(kind for kind, _ in numbers.FINDERS), *numbers.KINDS))
