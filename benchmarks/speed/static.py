"""A static-embedding model with MiniLM's sense of words: a million texts in a minute.

Each word piece has the vector that MiniLM gives it alone, and a text the mean of its pieces'
vectors, rare pieces weighing more than frequent ones (model2vec's recipe: Tulkens and van Dongen
2024; the weights are those of Arora et al. 2017, by rank in the vocabulary, which is ordered by
frequency). Vectors crowd around topics as a real model's do, which decides what an approximate
search of them finds.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np

from monoglot.learning.encoder import Encoder
from monoglot.learning.models import OFFLINE_MINILM

_SIF = 1e-3
_FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def static_model() -> Path:
    """Its folder, made once a process; 384 dimensions."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    encoder = Encoder.load(OFFLINE_MINILM, device="cpu")
    tokenizer = Tokenizer.from_str(encoder.model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.post_processor = None
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    vectors = encoder.encode([piece.removeprefix("##") for piece, _ in pieces])
    centred = vectors - vectors.mean(axis=0)
    frequency = 1.0 / (np.arange(len(pieces)) + 2.0)
    frequency /= frequency.sum()
    weighted = centred * (_SIF / (_SIF + frequency))[:, None]
    module = StaticEmbedding(
        tokenizer, embedding_weights=torch.tensor(weighted, dtype=torch.float32)
    )
    folder = Path(_FOLDER.name) / "static"  # as runs call the model
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)
    return folder
