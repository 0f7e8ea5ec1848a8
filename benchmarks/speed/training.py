"""Fine-tuning MiniLM beside sentence-transformers' trainer at its defaults: same pairs, same loss.

Translations and their English rows, InfoNCE over the batch, three epochs. Beside it, how fast any
loop could be on this machine.
"""

import tempfile
from pathlib import Path

from benchmarks.speed.figures import Figure
from benchmarks.speed.trainers import by_monoglot, by_trainer, material, mrr_of
from benchmarks.speed.training_bound import bound, shares
from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM

TITLE = "Fine-tuning MiniLM"
_PAIRS, _BATCH, _RATE = 1_280, 128, 2e-4


def measure(*, quick: bool, data: Path | None) -> list[Figure]:
    """Pairs a second of both, and what each has learned."""
    ours, theirs, base, again = (Encoder.load(OFFLINE_MINILM, device="cpu") for _ in range(4))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, pairs, questions = material(data, folder)
        pairs, epochs = pairs.head(256 if quick else _PAIRS), 1 if quick else 3
        seconds = by_monoglot(ours, rows, pairs, folder, epochs=epochs, batch=_BATCH, rate=_RATE)
        default = by_trainer(
            theirs, pairs, folder, epochs=epochs, batch=_BATCH, rate=_RATE, use_cpu=True
        )
        few, how = pairs.head(512), {"epochs": 1, "batch": _BATCH, "rate": _RATE}
        profiled = shares(lambda: by_monoglot(again, rows, few, folder, **how))
    shown = epochs * pairs.height
    texts = [*pairs["text"], *pairs["query"]]
    rates = {"ours": shown / seconds, "theirs": shown / default}
    return [
        Figure("Monoglot's loop", shown / seconds, "pairs/s"),
        Figure("`SentenceTransformerTrainer` at its defaults", shown / default, "pairs/s"),
        Figure("the first against the second", default / seconds, "x", least=5.0),
        *bound(base, texts, pairs=pairs.height, **rates),
        *profiled,
        Figure("MRR after Monoglot's loop", mrr_of(ours, rows, questions), ""),
        Figure("MRR after the trainer", mrr_of(theirs, rows, questions), ""),
    ]
