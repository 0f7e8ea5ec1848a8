"""Downloading a file from a web server or an object store, whole or not at all.

Web servers by httpx, object stores by pyarrow, which finds their credentials where their own tools
do. What the server marks as unchanged is not downloaded again.
"""

import email.utils
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from monoglot.addresses import Limits, s3_endpoint, s3_region, told
from monoglot.errors import ConfigError, DataError, SourceError

if TYPE_CHECKING:
    import httpx
    from pyarrow import fs

_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_BY_TYPE = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
}
_WEB, _OBJECTS = ("http", "https"), ("s3", "gs", "gcs", "abfs", "abfss")
_PIECE = 1 << 20
# A time of change tells seconds: within this of the download, the file may have changed again.
_SETTLED_S = 60


@dataclass(frozen=True)
class Download:
    """What came.

    Attributes:
        kind: the file's ending, by the address or by what the server says.
        mark: to ask the next time whether it is still the same; empty: that cannot be asked.
        is_unchanged: the known version is still there, and nothing was written.
    """

    kind: str
    mark: dict[str, str]
    is_unchanged: bool = False


def download(
    address: SecretStr, target: Path, limits: Limits, *, known: Mapping[str, str], shown: str
) -> Download:
    """Download a file.

    Args:
        address: https://, http://, s3://, gs:// or abfs://.
        target: the file to write.
        limits: of waiting for a sign of life, and of the file's size.
        known: mark of the version that is here already.
        shown: the address, for people.

    Raises:
        ConfigError: nothing here can read such an address.
        DataError: there is no such file, one may not read it, or it is no table.
        SourceError: the server cannot be reached, fails, or broke off.
    """
    scheme = address.get_secret_value().partition("://")[0].lower()
    if scheme in _WEB:
        return _from_web(address.get_secret_value(), target, limits, known, shown)
    if scheme in _OBJECTS:
        return _from_object_store(address.get_secret_value(), target, limits, known, shown)
    raise ConfigError(
        f"{shown}: is no address that can be read. Give one that begins with https://, s3://, "
        "gs:// or abfs://, or a local file as path."
    )


def _from_web(
    url: str, target: Path, limits: Limits, known: Mapping[str, str], shown: str
) -> Download:
    try:
        import httpx
    except ModuleNotFoundError:
        raise ConfigError(f"{shown}: needs httpx: `pip install 'monoglot[pipeline]'`.") from None
    headers = {"Accept-Encoding": "identity", **known}
    transport = httpx.HTTPTransport(retries=2)
    try:
        with (
            httpx.Client(timeout=limits.seconds, transport=transport, follow_redirects=True) as web,
            web.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return Download("", dict(known), is_unchanged=True)
            _refuse_answer(response, url, shown)
            kind = _kind(url, response.headers.get("content-type", ""), shown)
            with target.open("wb") as stream:
                for piece in response.iter_bytes(_PIECE):
                    if not stream.tell():
                        _refuse_page(piece, shown)
                    stream.write(piece)
                    _refuse_size(stream.tell(), limits, shown)
            return Download(kind, _mark(response))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigError(f"{shown}: is no address: {told(error, url)}. Correct it.") from None
    except httpx.TimeoutException:
        raise SourceError(
            f"{shown}: no answer within {limits.seconds:g} s (MONOGLOT_SOURCE_TIMEOUT_S). Check "
            "that the server is well, and run again."
        ) from None
    except httpx.RemoteProtocolError as error:
        raise SourceError(
            f"{shown}: the download broke off before its end ({told(error, url)}); nothing of it "
            "is used. Run again."
        ) from None
    except httpx.HTTPError as error:
        raise SourceError(
            f"{shown}: cannot be reached ({told(error, url)}). Check the address and the network."
        ) from None


def _refuse_answer(response: "httpx.Response", url: str, shown: str) -> None:
    hops = [*response.history, response]
    if url.startswith("https:") and any(hop.url.scheme != "https" for hop in hops):
        raise DataError(f"{shown}: is redirected from https to http. Give the final address.")
    code = response.status_code
    answer = f"{shown}: HTTP {code} {response.reason_phrase}".rstrip()
    if code >= 500 or code in (408, 429):
        raise SourceError(f"{answer}: the server is not well. Run again later.")
    if code in (401, 403, 407):
        raise DataError(
            f"{answer}: one may not read it. Put an address with user and password or token into "
            "an environment variable, and name that under url_env."
        )
    if code != 200:
        raise DataError(f"{answer}: there is no such file. Check the address.")


def _refuse_page(head: bytes, shown: str) -> None:
    start = head[:512].decode("latin-1").lstrip("\ufeffï»¿ \t\r\n").lower()
    if start.startswith(("<!doctype", "<html", "<?xml", "<head")):
        raise DataError(
            f"{shown}: is an HTML or XML page, not a table: a login page, or a page about the "
            f"file? Give the address of the file itself ({', '.join(_KINDS)})."
        )


def _refuse_size(size: int, limits: Limits, shown: str) -> None:
    if size > limits.bytes:
        raise DataError(
            f"{shown}: is larger than {limits.bytes / 1e6:,.0f} MB, which is not expected of a "
            "knowledge base. If it is right, raise MONOGLOT_SOURCE_MAX_MB."
        )


def _kind(url: str, content_type: str, shown: str) -> str:
    ending = posixpath.splitext(urlsplit(url).path)[1].lower()
    kind = ending if ending in _KINDS else _BY_TYPE.get(content_type.partition(";")[0].strip())
    if kind is None and content_type.startswith(("text/html", "application/xhtml")):
        _refuse_page(b"<html", shown)
    if kind is None:
        raise DataError(
            f"{shown}: unknown kind of file (the server says {content_type or 'nothing'}). Its "
            f"address must end in one of {', '.join(_KINDS)}, or the server say text/csv."
        )
    return kind


def _mark(response: "httpx.Response") -> dict[str, str]:
    """What to ask with the next time; a time of change only where it cannot hide a second one."""
    if etag := response.headers.get("etag"):
        return {"If-None-Match": etag}
    changed, now = response.headers.get("last-modified", ""), response.headers.get("date", "")
    try:
        age = email.utils.parsedate_to_datetime(now) - email.utils.parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return {}
    return {"If-Modified-Since": changed} if age.total_seconds() >= _SETTLED_S else {}


def _from_object_store(
    url: str, target: Path, limits: Limits, known: Mapping[str, str], shown: str
) -> Download:
    from pyarrow import fs

    kind = _kind(url, "", shown)
    try:
        store, path = _object_store(url, fs)
        info = store.get_file_info(path)
        if info.type is not fs.FileType.File:
            raise DataError(f"{shown}: no such object. Check the bucket and the key.")
        _refuse_size(info.size, limits, shown)
        mark = {"size": str(info.size), "changed": str(info.mtime_ns)}
        if mark == known:
            return Download(kind, mark, is_unchanged=True)
        with store.open_input_stream(path) as source, target.open("wb") as stream:
            while piece := source.read(_PIECE):
                stream.write(piece)
                _refuse_size(stream.tell(), limits, shown)
            size = stream.tell()
        after = store.get_file_info(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise SourceError(
            f"{shown}: the object store does not give it ({told(error, url)}). Check the bucket, "
            "its region, and the credentials in the environment."
        ) from None
    if (size, after.mtime_ns) != (info.size, info.mtime_ns):
        raise SourceError(f"{shown}: changed while it was read. Run again.")
    return Download(kind, mark if _is_settled(after) else {})


def _is_settled(info: "fs.FileInfo") -> bool:
    """Whether a second change would have another time; stores tell seconds."""
    import time

    return bool(info.mtime_ns) and time.time() - info.mtime_ns / 1e9 >= _SETTLED_S


def _object_store(url: str, fs: Any) -> tuple["fs.FileSystem", str]:
    """The store and the path within it; for S3 as the tools of AWS read the environment."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or parts.query:  # pyarrow's own options are in the query
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(url)
        return found
    options = {"endpoint_override": s3_endpoint(), "region": s3_region()}
    given = {name: value for name, value in options.items() if value}
    return fs.S3FileSystem(**given), f"{parts.netloc}{parts.path}"
