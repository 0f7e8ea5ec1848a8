"""Tiny real models for the tests, built in code: nothing is downloaded."""

import json
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def static_model(folder: Path, texts: list[str], dimensions: int = 48, seed: int = 0) -> Path:
    """A static-embedding model whose subword vocabulary is learned from the texts."""
    import torch

    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        texts, BpeTrainer(vocab_size=800, special_tokens=["<unk>"], show_progress=False)
    )
    model = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_dim=dimensions)], device="cpu"
    )
    model.save(str(folder), create_model_card=False)
    return folder


def _alike(tokenizer: Tokenizer) -> models.Unigram:
    """What was learned, without what differs each time: last digits, and the order of ties."""
    learned = json.loads(tokenizer.to_str())["model"]
    special, pieces = learned["vocab"][: len(SPECIAL)], learned["vocab"][len(SPECIAL) :]
    pieces = sorted((-round(score, 2), piece) for piece, score in pieces)
    vocabulary = [*map(tuple, special), *((piece, -score) for score, piece in pieces)]
    return models.Unigram(vocabulary, unk_id=learned["unk_id"])


def xlm_roberta(
    folder: Path, texts: list[str], seed: int = 0, *, pieces: int = 400, **larger: int
) -> Path:
    """A 2-layer XLM-RoBERTa with random weights and a unigram tokenizer learned from the texts.

    Args:
        folder: to write it to.
        texts: to learn at most so many `pieces` from.
        seed: of the weights.
        pieces: the tokenizer's vocabulary, at most.
        larger: settings of `XLMRobertaConfig`, for a model that is not tiny.
    """
    import torch
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        texts,
        UnigramTrainer(
            vocab_size=pieces, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        ),
    )
    tokenizer.model = _alike(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=64,
    )
    torch.manual_seed(seed)
    tiny = {
        "vocab_size": len(fast),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
    }
    config = XLMRobertaConfig(**{**tiny, **larger}, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    raw = folder.with_name(folder.name + "-raw")
    XLMRobertaModel(config).save_pretrained(raw)
    fast.save_pretrained(raw)
    transformer = Transformer(str(raw), max_seq_length=64)
    model = SentenceTransformer(
        modules=[transformer, Pooling(transformer.get_embedding_dimension())], device="cpu"
    )
    model.save(str(folder), create_model_card=False)
    return folder
