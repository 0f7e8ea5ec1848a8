"""The lines of a batch's result files: which request each belongs to, and what came of it.

A line holds the HTTP response that the request alone would have had, or an error of the batch's
own. It is judged as `llm` judges a response (a success without a reply counts as failed), with one
more outcome: a batch that expires or is cancelled leaves requests that nobody worked on, which is
no fault of theirs.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from monoglot.generation.failures import ACCOUNT_CODES, error_of, refuses_content, words
from monoglot.generation.replies import Reply

Outcome = Literal["answered", "untouched", "failed", "refused"]
_UNTOUCHED = ("batch_expired", "batch_cancelled")
LOST = json.dumps({"error": {"code": "no_reply", "message": "the batch came back without it"}})


@dataclass(frozen=True)
class Result:
    """One request's result.

    Attributes:
        request: its custom_id.
        outcome: answered: a reply, be it a refusal of the content; untouched: not worked on;
            failed: worked on, in vain; refused: the account or the model may not be used.
        body: the reply's body, or an error object.
        said: an error in words; empty for a reply.
        status: of the HTTP response; 0: there was none.
    """

    request: str
    outcome: Outcome
    body: str
    said: str = ""
    status: int = 0


def results_in(file: IO[bytes]) -> Iterator[Result]:
    """The results in a file; what is no result is left out, so that its request counts as lost."""
    for line in file:
        content = _mapping(_loaded(line))
        request = content.get("custom_id")
        if isinstance(request, str):
            yield _result(request, content)


def _result(request: str, content: Mapping[str, Any]) -> Result:
    response = _mapping(content.get("response"))
    status = response.get("status_code")
    if not isinstance(status, int):
        error = _mapping(content.get("error"))
        outcome: Outcome = "untouched" if str(error.get("code")) in _UNTOUCHED else "failed"
        return Result(request, outcome, json.dumps({"error": error}), words(error))
    body = json.dumps(response.get("body"))  # escapes halves of emoji, which SQLite cannot hold
    error = error_of(body)
    is_success = status < 300
    said = f"HTTP {status}{' without a reply' if is_success else ''} ({words(error)})"
    if Reply.of(body).is_answer if is_success else refuses_content(status, error):
        return Result(request, "answered", body, said, status)
    refused = status in (401, 403, 404) or str(error.get("code")) in ACCOUNT_CODES
    return Result(request, "refused" if refused else "failed", body, said, status)


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
