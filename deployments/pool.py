"""The work pool of the deployments, made where the server has none of this name.

    python -m deployments.pool POOL

By Prefect's client, which logs in where the server asks for it, and asks a busy one again. Not by
`prefect work-pool create`, which fails alike where there is one and where it may not look.
"""

import contextlib
import sys
from http import HTTPStatus

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker

_LOGIN = (
    "Set PREFECT_API_AUTH_STRING=user:password, to what the server has been given as "
    "PREFECT_SERVER_API_AUTH_STRING."
)


def ensure(pool: str) -> None:
    """Make the pool, of processes, unless it is there; one that is there stays as it is.

    Raises:
        PrefectHTTPStatusError: the server refuses.
    """
    template = ProcessWorker.get_default_base_job_template()
    wanted = WorkPoolCreate(name=pool, type="process", base_job_template=template)
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(wanted)


def _main(pool: str) -> None:
    try:
        ensure(pool)
    except PrefectHTTPStatusError as error:
        said = str(error).partition("\n")[0]
        is_closed = error.response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        sys.exit(f"{said}. {_LOGIN}" if is_closed else said)


if __name__ == "__main__":
    _main(sys.argv[1])
