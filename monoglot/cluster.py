"""Reaching a Dask cluster: what can be wrong with its address, said once."""

import contextlib
from collections.abc import Iterator

from monoglot.errors import ConfigError

PATIENCE_S = 10.0


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn a failure to reach the scheduler in the block into an error with the remedy.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers at the address.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MONOGLOT_CLUSTER={address}: {error.name} is not installed. Install the extra "
            "`cluster` on every machine, or unset the variable to work on this one alone."
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"MONOGLOT_CLUSTER={address}: no Dask scheduler answers there ({error}). Start one "
            "(`dask scheduler`), or unset the variable to work on this machine alone."
        ) from error
