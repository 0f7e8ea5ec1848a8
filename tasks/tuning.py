"""What the search for a recipe asks of measured cells."""

from monoglot.config import Config
from monoglot.learning.learned import peak_rate_of
from monoglot.learning.metrics import ALL, summarise
from monoglot.store import Artifact, Store
from tasks.models import ModelRef, locate


def score_of(store: Store, measured: Artifact | None, metric: str) -> float | None:
    """A cell's value on the validation questions; None: it could not be trained."""
    return None if measured is None else summarise(store.table(measured))[ALL].micro[metric]


def peak_rate(store: Store, config: Config, base: ModelRef) -> float:
    """The present recipe's learning rate, also where the config leaves it to the model's width."""
    from monoglot.learning.encoder import Encoder

    return peak_rate_of(config.fine_tuning, Encoder.load(locate(store, base)).dimensions)
