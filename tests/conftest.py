"""Fixtures shared by the tests of tasks and flows."""

import pytest
from hypothesis import settings

from flows.server import prefect_server

# No test is timed: a busy machine breaks nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """URL of one Prefect server for all tests that run flows; starting one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
            yield url
