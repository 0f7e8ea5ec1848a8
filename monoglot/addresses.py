"""Addresses of knowledge bases and stores, and what is said of them without what is secret."""

import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_LONG = 8  # letters of a secret that is found within other words, too


class Limits(NamedTuple):
    """How long to wait for an answer, each time, and how many bytes to take."""

    seconds: float
    bytes: int


def without_secrets(address: str) -> str:
    """The address without user, password, query and fragment."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    if not parts.scheme:
        return "an address without a scheme"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def told(error: BaseException | str, address: str) -> str:
    """What a library says of an error, in a line, without what of the address is secret.

    Whatever it quotes: the whole address, its password, or the part behind the question mark.
    """
    text = " ".join(str(error).split())
    try:
        parts = urlsplit(address)
        secrets = [parts.password or "", parts.query, parts.fragment]
        secrets += [value for pair in parts.query.split("&") for value in pair.split("=")[1:]]
    except ValueError:
        secrets = []
    text = text.replace(address, without_secrets(address))
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        for written in {secret, unquote(secret), quote(unquote(secret), safe="")}:
            found = re.escape(written)
            if len(written) < _LONG:  # such as sp=r, which is no letter of another word
                found = rf"(?<!\w){found}(?!\w)"
            text = re.sub(found, "***", text)
    return text[:500]


def s3_endpoint() -> str:
    """Where S3 is, as the tools of AWS read the environment; empty: Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def s3_region() -> str:
    """The region, read likewise; empty: not set."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
