"""Where a store on S3 is: its address, credentials and mirror, by the environment.

As the tools of AWS read it: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile in
`~/.aws`, or the role of the machine; `AWS_REGION`; `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for
stores that are not Amazon's. `MONOGLOT_MIRROR` names the folder of the mirrors.
"""

import configparser
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from monoglot.addresses import s3_endpoint, s3_region
from monoglot.errors import ConfigError
from monoglot.identity import digest

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class Place(NamedTuple):
    """A bucket and the part of its names that all of a store's begin with."""

    bucket: str
    prefix: str

    @property
    def location(self) -> str:
        """As in `monoglot.yaml`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def is_remote(location: str) -> bool:
    """Whether a store's location is an address, not a folder."""
    return "://" in location


def place_of(location: str) -> Place:
    """Read a store's address.

    Raises:
        ConfigError: it is none of S3's, or names no bucket.
    """
    parts = urlsplit(location)
    if parts.scheme != "s3" or not parts.hostname or parts.query or "@" in parts.netloc:
        raise ConfigError(
            f"store: {parts.scheme}://{parts.hostname or ''}{parts.path}: is no folder and no "
            "s3://bucket/prefix. Give one of these; credentials and endpoint stay in the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION)."
        )
    return Place(parts.netloc, parts.path.strip("/"))


def connection() -> dict[str, str]:
    """Options of object_store, which obstore and LanceDB are both built on."""
    options = {"region": s3_region() or "us-east-1"}
    if endpoint := s3_endpoint():
        options["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options | _credentials()


def storage_options(location: str) -> dict[str, str] | None:
    """What LanceDB connects with; None for a folder."""
    return connection() if is_remote(location) else None


def _credentials() -> dict[str, str]:
    """Those of the environment, or of a profile; none: the machine's role is asked."""
    found = {name: os.environ.get(name.upper(), "") for name in _KEYS}
    if not found[_KEYS[0]]:
        file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
        profiles = configparser.ConfigParser(interpolation=None)
        profiles.read(file.expanduser(), encoding="utf-8")
        profile = os.environ.get("AWS_PROFILE") or "default"
        if profiles.has_section(profile):
            found = {name: profiles.get(profile, name, fallback="") for name in _KEYS}
    return {name: value for name, value in found.items() if value}


def mirror_of(place: Place) -> Path:
    """The folder of this machine that a store is mirrored in; another endpoint, another folder."""
    chosen = os.environ.get("MONOGLOT_MIRROR")
    base = Path(chosen).expanduser() if chosen else _cache_folder() / "monoglot"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", place.location.removeprefix("s3://"))
    return base / f"{name}-{digest([s3_endpoint(), place.location])[:8]}"


def local_part(location: str) -> Path:
    """The folder of this machine that belongs to a store: the store itself, or its mirror."""
    return mirror_of(place_of(location)) if is_remote(location) else Path(location)


def _cache_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
