"""What a service hides in its query log: the config's section `redaction`, kept in the store.

    store/redaction.json

A service knows the store and not `monoglot.yaml`. So each `retrain` leaves the section here, by the
store's own means, in a folder or in a bucket. Patterns and countries say nothing of anybody.
"""

from monoglot.errors import StoreError
from monoglot.generation_config import RedactionConfig
from monoglot.store import Store

_NAME = "redaction.json"


def keep_redaction(store: Store, redaction: RedactionConfig) -> None:
    """Leave the section for the services, unless it is what they have.

    Raises:
        StoreError: the store cannot be written.
    """
    text = redaction.model_dump_json(indent=1)
    with store.explained():
        if store.files.read(_NAME) != text:
            store.files.write(_NAME, text)


def kept_redaction(location: str) -> RedactionConfig:
    """The section that the last run left; the defaults where there is no store, or none ran yet.

    What is there and cannot be read is refused: the defaults would write what it hides.

    Raises:
        ConfigError: the location is no store's address.
        StoreError: the store or the section cannot be read.
    """
    store = Store.if_any(location)
    if store is None:
        return RedactionConfig()
    try:
        text = store.files.read(_NAME)
        return RedactionConfig() if text is None else RedactionConfig.model_validate_json(text)
    except (OSError, ValueError) as error:  # pydantic's is a ValueError
        raise StoreError(
            f"{store.files.told(_NAME)}: what the query log is to hide cannot be read "
            f"({type(error).__name__}). `monoglot run` with this version writes it anew; or give "
            "`QueryLog` a `redaction`."
        ) from error
