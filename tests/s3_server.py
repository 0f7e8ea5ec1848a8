"""A real S3 server on loopback, which tests run against: moto's, or the one that is named.

`MONOGLOT_TEST_S3=http://127.0.0.1:8333` names another server, such as SeaweedFS or MinIO, that
knows the user `me` with the key of `KEY` and has an empty bucket `shop`.
"""

import contextlib
import os
import shutil
import subprocess
import time
import urllib.request
from socket import create_server

import pytest

KEY = "hunter2%/@!"


@contextlib.contextmanager
def s3_server():
    """The server's address; it has an empty bucket `shop`."""
    named = os.environ.get("MONOGLOT_TEST_S3")
    if named:
        yield named
        return
    moto = shutil.which("moto_server")
    if moto is None:
        pytest.skip("no S3 server on this machine (pip install 'moto[server]')")
    with create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        [moto, "-p", url.rpartition(":")[2]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                put(f"{url}/shop", b"")
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def s3():
    """The address of a server that is up for a module."""
    with s3_server() as url:
        yield url


@pytest.fixture
def machine(s3, tmp_path, monkeypatch):
    """Go to another machine: `machine("b")` has a mirror of its own."""
    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)

    def go(name):
        monkeypatch.setenv("MONOGLOT_MIRROR", str(tmp_path / name))

    go("a")
    return go


def environment(url):
    """What a process needs to reach it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": KEY,
    }


def put(url, body):
    who = "AWS4-HMAC-SHA256 Credential=me/20260101/us-east-1/s3/aws4_request"
    request = urllib.request.Request(
        url, body, method="PUT", headers={"Authorization": who, "Content-Type": "text/csv"}
    )
    urllib.request.urlopen(request, timeout=5).close()
