"""What a failed request says: whether to try again, when, and why it failed."""

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

_REPEATABLE = frozenset((408, 409, 429))
_BEFORE_SENDING = frozenset(("ConnectError", "ConnectTimeout", "PoolTimeout"))  # of httpx2
_CONTENT_CODES = ("content_filter", "content_policy_violation", "context_length_exceeded")

# The account is empty: repeating cannot mend that, though some endpoints say HTTP 429.
ACCOUNT_CODES = frozenset(("insufficient_quota", "billing_hard_limit_reached"))


def is_repeatable(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _REPEATABLE or status >= 500


def refuses_content(status: int, error: Mapping[str, Any]) -> bool:
    """Whether an HTTP error is about what was asked: an answer, to be recorded like any other."""
    code = str(error.get("code") or "")
    return status in (400, 413) and (
        code.startswith(_CONTENT_CODES) or "context length" in words(error)
    )


def error_of(body: str) -> Mapping[str, Any]:
    """The error object of a body, or an empty one."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {"message": error} if error else {}


def words(error: Mapping[str, Any]) -> str:
    """An error object in the endpoint's words, cut to what fits a message."""
    return str(error.get("message") or error.get("code") or "no explanation")[:300]


def cause(error: Exception) -> str:
    """The innermost reason of a failed connection, which the client's own message leaves out."""
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    return str(reason) or type(reason).__name__


def was_sent(error: Exception) -> bool:
    """Whether a request may have reached the endpoint before its connection failed."""
    return type(error.__cause__).__name__ not in _BEFORE_SENDING


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds an endpoint asks to wait (RFC 9110, section 10.2.3); 0 where it asks for none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            pass
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            pass
    return 0.0
