"""Numbers that name a person: phones, cards, accounts, tax ids; told from amounts, dates, orders.

A run of digit groups is looked at as a whole and in parts, the longest part first, and each part
is asked what it can be: a card by its check digit (Luhn, ISO/IEC 7812-1), a phone number by the
numbering plan of its country (the `phonenumbers` library), an IBAN by its check digits (ISO 13616),
else an account by its length. Words before it decide the rest: "order", "Rs" and their kind leave
a number alone, "a/c", "call me on" and their kind tell a shorter one.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from monoglot.generation.scripts import digits_of_the_world

BLANK = "\x00"  # stands for what is found already; no digit, no word, no space
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"
_SPACES = "\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000"
_SHAPELESS = "\u200b\u200c\u200d\u200e\u200f\u2060\u2066\u2067\u2068\u2069\u202a\u202b\u202c\u202d"
_FOLD = str.maketrans(
    {
        **digits_of_the_world(),
        **dict.fromkeys(_DASHES, "-"),
        **dict.fromkeys(_SPACES + _SHAPELESS + "\u202e\ufeff\u00ad\t", " "),
        **{"\uff0b": "+", "\uff20": "@", "\uff0e": ".", BLANK: " "},
    }
)

# Groups of digits with little between them. No comma and no colon between digits: these part
# amounts and times, unless a long number is before the comma, which ends there.
_GROUPS = (
    r"(?:\+ ?|00 ?(?=[1-9]))?\(?\+?\d+(?:(?: {1,2}|[-.)(] ?| ?[-(] ?|\) ?-? ?)\(?\d+)*"
    r"(?![\w@%]|:\d|,(?!\d\d/)\d{1,3}(?!\d))(?:(?<=\d{4})|(?!/\d{1,4}(?!\d)))"
)
_RUN = re.compile(
    rf"(?<![\w#@-])(?<!\d[.:])(?<!^[.:])(?:(?<!,)|(?<=\d{{9}},))(?:(?<!\D/)|(?<=wa\.me/))(?<!\d[ ])"
    rf"(?P<number>{_GROUPS})"
)
# The same glued to what it is: "mob9876543210", "phone-98765 43210", "whatsapp#9876543210".
_GLUED = re.compile(
    r"(?i)(?<![^\W_])(?:phone|ph|mobile|mob|cell|tel|whatsapp|wa|call|sms|contact|no|num|number|card"
    rf"|acct?|account|a/c|aadhaar|aadhar)[#-]?(?P<number>{_GROUPS})"
)
_GROUP = re.compile(r"\d+")
_DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])[-. ](?:0?[1-9]|1[0-2])[-. ](?:19|20)?\d\d"
    r"|(?:0?[1-9]|1[0-2])[-. ](?:0?[1-9]|[12]\d|3[01])[-. ](?:19|20)?\d\d"
    r"|(?:19|20)\d\d[-. ](?:0?[1-9]|1[0-2])[-. ](?:0?[1-9]|[12]\d|3[01])"
)
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_YEARS = re.compile(r"(?:19|20)\d\d(?:[- .]{1,3}(?:19|20)\d\d)*")
_COORDINATES = re.compile(r"-?\d{1,3}\.\d{4,}(?: -?\d{1,3}\.\d{4,})?")

_LINK = (
    r"[\s:.#=-]*(?:(?:is|was|hai|no|num|number|id|nr|code|ka|ki|की|का|नंबर|नम्बर|संख्या|رقم|رقمه|هو)"
    r"(?![^\W_])[\s:.#=-]*){0,3}$"
)
# A number after these is a thing's, not a person's.
_THING = re.compile(
    r"(?i)(?:(?<![^\W_])(?:order|orders|ord|invoice|bill|ticket|booking|pnr|ref|reference|tracking"
    r"|track|awb|consignment|docket|shipment|parcel|package|serial|sku|isbn|ean|barcode|complaint"
    r"|request|case|transaction|txn|utr|rrn|item|product|article|part|coupon|voucher|gift card"
    r"|flight|train|policy version|build|version|error|code|token|crn|sr|srn|incident|pedido"
    r"|facture|commande|bestellung|sendung)|ऑर्डर|आर्डर|टिकट|बिल|ट्रैकिंग|शिकायत|पार्सल|पीएनआर"
    r"|(?:ال)?(?:طلب|طلبية|طلبي|فاتورة|شحنة|تذكرة|تتبع|حجز|بلاغ|شكوى))" + _LINK
)
_MONEY_BEFORE = re.compile(
    r"(?i)(?:(?<![^\W_])(?:rs|inr|usd|eur|gbp|aed|sar|egp|amount|price|total|balance|worth|salary"
    r"|limit|rupees|dollars)|[$€£₹¥﷼]|रु|रुपये|مبلغ)[\s.:]*$"
)
_MONEY_AFTER = re.compile(
    r"(?i)[\s]*(?:rs\b|inr\b|usd\b|rupees|rupaye|rupay|dollar|euro|pounds|dirham|riyal|lakh|crore"
    r"|million|bn\b|km\b|kg\b|users|times|bytes|mb\b|gb\b|/-|[$€£₹%]|रुपये|रुपए|درهم|ريال|جنيه)"
)
# A number after these is somebody's, even a short one.
_PHONE_CUE = re.compile(
    r"(?i)(?:(?<![^\W_])(?:call|calls|called|phone|phones|ph|tel|telephone|mobile|mob|cell|contact"
    r"|whatsapp|whats app|wa|sms|text|dial|ring|fon|landline|number|no|num|fax|helpline)"
    r"|फोन|फ़ोन|मोबाइल|कॉल|व्हाट्सएप|संपर्क"
    r"|(?:ال)?(?:هاتف|جوال|موبايل|تلفون|تليفون|واتساب|اتصل|اتصلوا|جوالي|هاتفي|موبايلي|رقمي))"
    r"(?:\s*(?:me|us|him|her|it|on|at|to|is|hai|my|mera|no|number|num|par|pe|karo|kijiye|पर|करें"
    r"|नंबर|है|رقم|على|هو|بي|رقمي))*[\s:.#=+()-]*$"
)
_ACCOUNT_CUE = re.compile(
    r"(?i)(?:(?<![^\W_])(?:a/?c|acc|acct|account|accounts|khata|khate|sort code|routing|customer id"
    r"|cust id|client id|member|membership|loyalty|card|debit|credit|aadhaar|aadhar|adhaar|uan"
    r"|passport|licence|license|konto|cuenta|compte)|खाता|खाते|अकाउंट|आधार|कार्ड"
    r"|(?:ال)?(?:حساب|حسابي|بطاقة|بطاقتي|هوية|الهوية|إقامة|اقامة))" + _LINK
)
_LOOK_BACK = 48
_LOOK_AHEAD = 12
_MOST_GROUPS = 12
_LONG_RUN = 9  # digits in one piece that are no amount and no order: an account, or like one
_FEWEST = 6
_LOCAL_WITH_CUE = 7
_LONGEST_NATIONAL = 12

_DIGIT = r"(?:(?:double|triple)[ -])?(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)"
SPOKEN = re.compile(rf"(?i)\b{_DIGIT}(?:[ ,-]+{_DIGIT}\b){{6,}}")
_IBAN = re.compile(r"(?i)\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?\b")
_IDS = re.compile(
    r"(?i)\b(?:[a-z]{3}[abcfghljpt][a-z]\d{4}[a-z]"  # PAN (India): the fourth letter is the holder
    r"|(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}"  # social security number (US)
    r"|(?!bg|gb|nk|kn|tn|nt|zz)[a-ceghj-prstw-z][a-ceghj-npr-tw-z] ?(?:\d{2} ?){3}[a-d]"  # UK
    r"|(?<=passport: )[a-z]\d{7}"
    r"|(?<=passport )[a-z]\d{7}|(?<=passport no )[a-z]\d{7}|(?<=passport number )[a-z]\d{7})\b"
)


def folded(text: str) -> str:
    """A text of the same length with ASCII digits, plain dashes and plain spaces."""
    return text.translate(_FOLD)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for found in _IBAN.finditer(text):
        # The pattern may run on into the next word: "IBAN GB82... please".
        for end in _ends(found):
            if _is_iban(text[found.start() : end]):
                yield found.start(), end
                break


def _ends(found: re.Match[str]) -> list[int]:
    """Where a match may end: itself, and before each of its spaces, from the right."""
    inner = [found.start() + place for place, mark in enumerate(found[0]) if mark == " "]
    return [found.end(), *reversed(inner)]


def _is_iban(written: str) -> bool:
    code = re.sub(r"[ -]", "", written).upper()
    if not 15 <= len(code) <= 34:
        return False
    return int("".join(str(int(mark, 36)) for mark in code[4:] + code[:4])) % 97 == 1


def _ids(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in _IDS.finditer(text))


def _spoken(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in SPOKEN.finditer(text))


FINDERS: tuple[tuple[str, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("iban", _ibans),
    ("id", _ids),
    ("phone", _spoken),
)
KINDS = ("card", "phone", "account")


def find_numbers(text: str, regions: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Cards, phones and accounts in a folded text: kind, start, end.

    Args:
        text: from `folded`, with what is found already blanked.
        regions: ISO 3166 codes whose numbers are known without their country code.
    """
    for begin, end in _runs(text):
        groups = [group.span() for group in _GROUP.finditer(text, begin, end)]
        first = 0
        while first < len(groups):
            start = begin if first == 0 else groups[first][0]
            found = _longest(text, start, groups[first:], regions)
            if found is None:
                first += 1
                continue
            yield found[:3]
            first += found[3]


def _runs(text: str) -> list[tuple[int, int]]:
    """Where the runs of digit groups are, each once."""
    found = itertools.chain(_RUN.finditer(text), _GLUED.finditer(text))
    runs: list[tuple[int, int]] = []
    for begin, end in sorted(run.span("number") for run in found):
        if not runs or begin >= runs[-1][1]:
            runs.append((begin, end))
    return runs


def _longest(
    text: str, start: int, groups: Sequence[tuple[int, int]], regions: Sequence[str]
) -> tuple[str, int, int, int] | None:
    """What the longest meaningful part is that begins with the first group."""
    for used in range(min(len(groups), _MOST_GROUPS), 0, -1):
        part = [text[left:right] for left, right in groups[:used]]
        if sum(map(len, part)) < _FEWEST:
            return None
        end = groups[used - 1][1]
        kind = _kind_of(text, start, end, part, regions)
        if kind:
            return kind, start, end, used
    return None


def _kind_of(
    text: str, start: int, end: int, part: Sequence[str], regions: Sequence[str]
) -> str | None:
    """What a part of a run is by its own form, else by the words around it."""
    written, digits = text[start:end], "".join(part)
    if _is_card(digits, part):
        return "card"
    if written.startswith(("+", "00")) and _is_phone(written, ("ZZ",)):
        return "phone"
    before, after = text[max(0, start - _LOOK_BACK) : start], text[end : end + _LOOK_AHEAD]
    amount = _MONEY_BEFORE.search(before) or _MONEY_AFTER.match(after)
    if _is_other(written) or _is_round(part) or amount:
        return None
    if _ACCOUNT_CUE.search(before):
        return "account"
    return None if _THING.search(before) else _kind_by_form(written, part, before, regions)


def _kind_by_form(
    written: str, part: Sequence[str], before: str, regions: Sequence[str]
) -> str | None:
    cued = bool(_PHONE_CUE.search(before))
    in_use = _is_phone_shaped(written, part, cued=cued) and _is_phone(written, tuple(regions))
    local = cued and _LOCAL_WITH_CUE <= sum(map(len, part)) <= _LONGEST_NATIONAL
    if in_use or local:
        return "phone"
    return "account" if _is_account_shaped(part) else None


def _is_card(digits: str, part: Sequence[str]) -> bool:
    """13 to 19 digits of an issuer's range with a right check digit, grouped as cards are."""
    if not 13 <= len(digits) <= 19 or digits[0] not in "23456":
        return False
    if len(part) > 1 and not (set(map(len, part[:-1])) <= {4, 5, 6} or len(part) == len(digits)):
        return False
    return _luhn(digits)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_other(written: str) -> bool:
    """A date, years, an address of the Internet, a place on the map."""
    return any(form.fullmatch(written) for form in (_DATE, _IPV4, _YEARS, _COORDINATES))


def _is_round(part: Sequence[str]) -> bool:
    """A population, a budget: written in one piece, with zeros at its end."""
    return len(part) == 1 and part[0].endswith("000000")


def _is_phone_shaped(written: str, part: Sequence[str], *, cued: bool) -> bool:
    """Long enough and grouped as people group phone numbers."""
    count = sum(map(len, part))
    if cued:
        return _LOCAL_WITH_CUE <= count <= 15
    pairs = len(part) > 3 and all(len(group) <= 2 for group in part) and len(part) != count
    mixed = "." in written and any(mark in written for mark in " -")
    return 9 <= count <= 15 and not pairs and not mixed and (count >= 10 or part[0][0] == "0")


def _is_account_shaped(part: Sequence[str]) -> bool:
    """One long run, or blocks of four as on cards and Aadhaar letters; no round numbers."""
    digits = "".join(part)
    if len(part) == 1:
        return len(digits) >= _LONG_RUN
    fours = len(part) >= 3 and all(len(group) == 4 for group in part[:-1]) and len(part[-1]) <= 4
    return fours and not all(group.endswith("00") or _YEARS.fullmatch(group) for group in part)


@functools.lru_cache(maxsize=4096)
def _is_phone(written: str, regions: tuple[str, ...]) -> bool:
    """Whether a number is in use by the numbering plan of one of the regions."""
    import phonenumbers

    if written.startswith("00"):
        written, regions = "+" + written[2:].lstrip(), ("ZZ",)
    for region in regions:
        try:
            number = phonenumbers.parse(written, None if region == "ZZ" else region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return True
    return False
