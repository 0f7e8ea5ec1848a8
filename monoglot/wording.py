"""Numbers and times as people read them, in a page, a Markdown text or a log."""

import math
import re

_MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def number(value: float | None) -> str:
    """A metric with three digits; a dash where there is none."""
    return NOTHING if value is None else f"{value:.3f}".replace("-", _MINUS)


def signed(value: float) -> str:
    """A difference of metrics, its sign always shown."""
    return f"{value:+.3f}".replace("-", _MINUS)


def between(low: float, high: float) -> str:
    """The bounds of an interval."""
    return f"{number(low)} to {number(high)}"


def percent(share: float) -> str:
    """A share as whole per cent."""
    return f"{share:.0%}"


def rate(share: float) -> str:
    """A small share, to a tenth of a per cent."""
    return f"{share:.1%}"


def dollars(usd: float | None) -> str:
    """A price, to the cent or to two digits that count; None: unknown, which is not nothing."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def duration(seconds: float) -> str:
    """A time in the one or two units that matter."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def plain(value: object) -> str:
    """Any value: thousands apart, and a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(text: str) -> str:
    """Text that Markdown takes for text, on one line, whatever a file's author wrote in it."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&!#@])", r"\\\1", " ".join(text.split()))
    return escaped.replace("://", ":\\//")
