"""Every error Monoglot raises on purpose, and the exit code the command line gives it.

    MonoglotError
    |-- InputError            exit 2: the user can mend it by editing a file or a setting
    |   |-- ConfigError       monoglot.yaml or an environment variable
    |   |-- DataError         a knowledge base, translations, training or evaluation file
    |   `-- ModelError        a base model that cannot be loaded or must not be used
    |-- RunError              exit 1: the input was fine, the work could not be done
    |   |-- StoreError        the store cannot be read or written, or has another format
    |   |-- StoreBusyError    another run holds the store's writer lock
    |   |-- SourceError       the place where a knowledge base lives cannot be reached
    |   |-- EndpointError     the LLM endpoint cannot be reached or refuses to work
    |   |-- BudgetError       the spending limit was reached; what was bought is kept
    |   `-- StaleVectorsError vectors of one model were about to be searched with another
    `-- BatchPendingError     exit 0: nothing failed; the LLM answers later, in batches

A message says what is wrong, where (file, row, column or field) and what to do about it, since
it is shown to people who have never seen this code.
"""

from monoglot.outstanding import Outstanding


class MonoglotError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command line's."""

    exit_code = 1


class InputError(MonoglotError):
    """Something the user gave cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """The configuration or an environment variable is wrong."""


class DataError(InputError):
    """A data file is missing, unreadable or breaks its contract."""


class ModelError(InputError):
    """A model folder or hub name cannot be loaded or is not allowed."""


class RunError(MonoglotError):
    """The work could not be done although the input was fine."""


class StoreError(RunError):
    """The store cannot be read or written, or is of a format this version does not know."""


class StoreBusyError(RunError):
    """Another process is writing to this store."""


class SourceError(RunError):
    """A knowledge base's server, database or object store cannot be reached, or broke off."""


class EndpointError(RunError):
    """The LLM endpoint cannot be reached, or refuses the request."""


class BudgetError(RunError):
    """A spending limit was reached before the work was complete."""


class StaleVectorsError(RunError):
    """An index was built by another model than the one that encodes the query."""


class BatchPendingError(MonoglotError):
    """The answers that the work needs are out in batches: it goes on when they have come back."""

    exit_code = 0

    def __init__(self, out: Outstanding) -> None:
        super().__init__(f"{out.line}; run again to take in the answers")
        self.out = out
