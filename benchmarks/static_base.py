"""A base model that trains in seconds, for sweeps: the token vectors of the offline MiniLM."""

from pathlib import Path

_DIMENSIONS = 128
# Of fine_tuning: vectors that no transformer follows have further to go.
STATIC = {"learning_rate": 0.02, "epochs": 6, "batch_size": 128}


def static_base(folder: Path) -> Path:
    """Save the model in a folder; returns the folder."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from monoglot.learning.encoder import Encoder

    whole = Encoder.load("offline-minilm", device="cpu").model
    weights = whole[0].auto_model.get_input_embeddings().weight.detach().numpy()
    tokenizer = whole.tokenizer.backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    centred = weights - weights.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # from the least to the greatest variance
    small = np.ascontiguousarray(centred @ directions[:, -_DIMENSIONS:])
    module = StaticEmbedding(tokenizer, embedding_weights=small)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)
    return folder
