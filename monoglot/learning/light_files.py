"""What `light` reads of a sentence-transformers folder, and how it knows that it knows it all.

Each check is of what sentence-transformers 6 and transformers 5 would do with the same file; where
they would do anything else than `light` does, the answer is None and the folder theirs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

_MODULES = ("Transformer", "Pooling", "Normalize")  # the last may be missing: `Encoder` normalises
_SENTENCE_BERT: dict[str, Any] = {
    "do_lower_case": False,
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
_ARCHITECTURE: dict[str, Any] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
_TOKENIZER: dict[str, Any] = {"truncation_side": "right", "padding_side": "right"}
_AS_WRITTEN = {"TokenizersBackend", "PreTrainedTokenizerFast"}


class Shape(NamedTuple):
    """Sizes of a transformer and what differs between the known ones."""

    kind: str
    width: int
    layers: int
    heads: int
    epsilon: float
    pad: int
    counts_from_pad: bool  # positions, as RoBERTa's do; BERT's count from zero
    first_token: bool  # is the vector; else the mean of all


class Files:
    """A model's folder; what is not there reads as empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def json(self, name: str) -> Any:
        """The content of a JSON file; an empty object where there is none."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def weights(self) -> "dict[str, Tensor]":
        """Tensors by name of the one weights file; empty where there is none."""
        from safetensors.torch import load_file

        path = self.folder / "model.safetensors"
        return load_file(path) if path.is_file() else {}

    def modules(self) -> list[tuple[str, str]]:
        """Class name and subfolder of each module of sentence-transformers' own, in order."""
        found = [(str(each["type"]), str(each["path"])) for each in self.json("modules.json")]
        if not all(name.startswith("sentence_transformers.") for name, _ in found):
            return []  # a class of the folder's own code, or of another package
        return [(name.rpartition(".")[2], path) for name, path in found]

    def tokenizer(self) -> "Tokenizer | None":
        """What `tokenizer.json` says, without the padding it may ask for."""
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if not path.is_file():
            return None
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        return tokenizer


def known_static(files: Files) -> "tuple[Tokenizer, Tensor] | None":
    """Tokenizer and table (tokens, d) of static embeddings, or None."""
    names = [name for name, _ in files.modules()]
    if names not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        return None
    files = Files(files.folder / files.modules()[0][1])
    table, tokenizer = files.weights().get("embedding.weight"), files.tokenizer()
    if table is None or tokenizer is None or not table.dtype.is_floating_point:
        return None
    return tokenizer, table.float()


def known_transformer(
    files: Files, max_tokens: int | None
) -> "tuple[Tokenizer, Shape, dict[str, Tensor]] | None":
    """Tokenizer, shape and weights of a BERT or XLM-RoBERTa in fp32, or None."""
    modules = files.modules()
    names = tuple(name for name, _ in modules)
    if names not in (_MODULES, _MODULES[:2]) or (files.folder / "adapter_config.json").exists():
        return None
    first_token = _first_token(files.json(f"{modules[1][1]}/config.json"))
    shape = None if first_token is None else _shape(files.json("config.json"), first_token)
    if modules[0][1] or shape is None:
        return None
    tokenizer = _known_tokenizer(files, shape)
    limit = _limit(files, shape)
    if tokenizer is None or limit is None:
        return None
    weights = files.weights()
    if not _complete(weights, shape):
        return None
    tokenizer.enable_truncation(min(max_tokens or limit, limit))
    return tokenizer, shape, weights


def _has_only(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether keys that are there have the values that are known; others are not looked at."""
    return all(found.get(key, value) == value for key, value in known.items())


def _first_token(pooling: dict[str, Any]) -> bool | None:
    """Whether the first token is the vector, or else the mean; None for another pooling."""
    prefix = "pooling_mode_"  # as written before sentence-transformers 6
    modes = [key.removeprefix(prefix) for key, on in pooling.items() if on and prefix in key]
    modes += [pooling["pooling_mode"]] if "pooling_mode" in pooling else []
    return {"cls": True, "cls_token": True, "mean": False, "mean_tokens": False}.get(
        str(modes[0]) if len(modes) == 1 else ""
    )


def _shape(config: dict[str, Any], first_token: bool) -> Shape | None:
    kind = config.get("model_type")
    if kind not in ("bert", "xlm-roberta") or not _has_only(config, _ARCHITECTURE):
        return None
    return Shape(
        kind=kind,
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        pad=config.get("pad_token_id", 0 if kind == "bert" else 1),
        counts_from_pad=kind == "xlm-roberta",
        first_token=first_token,
    )


def _limit(files: Files, shape: Shape) -> int | None:
    """Tokens that are read of a text, as the folder says; None where its positions end sooner."""
    own = files.json("sentence_bert_config.json")
    if not _has_only(own, _SENTENCE_BERT) or own.keys() - {"max_seq_length", *_SENTENCE_BERT}:
        return None
    positions = files.json("config.json")["max_position_embeddings"]
    limit = own.get("max_seq_length") or min(
        files.json("tokenizer_config.json").get("model_max_length", positions), positions
    )
    room = positions - (shape.pad + 1 if shape.counts_from_pad else 0)
    return int(limit) if limit <= room else None


def _known_tokenizer(files: Files, shape: Shape) -> "Tokenizer | None":
    """The tokenizer, if transformers would make the same one of the folder's files."""
    config, tokenizer = files.json("tokenizer_config.json"), files.tokenizer()
    if tokenizer is None or not _has_only(config, _TOKENIZER) or not _has_added(tokenizer, config):
        return None
    name = str(config.get("tokenizer_class")).removesuffix("Fast")
    if config.get("tokenizer_class") in _AS_WRITTEN:
        return tokenizer
    # These two are made anew from the vocabulary, whatever else `tokenizer.json` says.
    if name == "BertTokenizer" and shape.kind == "bert":
        return tokenizer if _is_bert(tokenizer, config) else None
    if name == "XLMRobertaTokenizer" and shape.kind == "xlm-roberta":
        return tokenizer if _is_xlm_roberta(tokenizer, config) else None
    return None


def _has_added(tokenizer: "Tokenizer", config: dict[str, Any]) -> bool:
    """Whether every token that the configuration adds is one the tokenizer has added already."""
    added = {each.content: each for each in tokenizer.get_added_tokens_decoder().values()}
    special = [value for key, value in config.items() if key.endswith("_token")]
    special += config.get("additional_special_tokens") or []
    special += config.get("extra_special_tokens") or []
    detailed = list((config.get("added_tokens_decoder") or {}).values())
    detailed += [each for each in special if isinstance(each, dict)]
    names = [each for each in special if isinstance(each, str)]
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    return all(name in added for name in names) and all(
        each["content"] in added
        and all(getattr(added[each["content"]], flag) == each.get(flag, False) for flag in flags)
        for each in detailed
        if "special" in each or each["content"] not in added
    )


def _is_bert(tokenizer: "Tokenizer", config: dict[str, Any]) -> bool:
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    return (
        _same(tokenizer.normalizer, normalizer)
        and _same(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer())
        and _frames(tokenizer, config.get("cls_token", "[CLS]"), config.get("sep_token", "[SEP]"))
    )


def _is_xlm_roberta(tokenizer: "Tokenizer", config: dict[str, Any]) -> bool:
    from tokenizers import normalizers, pre_tokenizers

    scheme = "always" if config.get("add_prefix_space", True) else "never"
    words = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme),
    ]
    normalizer = tokenizer.normalizer
    return (
        (normalizer is None or isinstance(normalizer, normalizers.Precompiled))
        and _same(tokenizer.pre_tokenizer, pre_tokenizers.Sequence(words))
        and _frames(tokenizer, config.get("bos_token", "<s>"), config.get("eos_token", "</s>"))
    )


def _same(part: Any, other: Any) -> bool:
    """Whether two parts of a tokenizer are written alike."""
    return part is not None and bool(part.__getstate__() == other.__getstate__())


def _frames(tokenizer: "Tokenizer", first: Any, last: Any) -> bool:
    """Whether a text is put between these two tokens."""
    return bool(tokenizer.encode("").tokens == [first, last])


def _complete(weights: "dict[str, Tensor]", shape: Shape) -> bool:
    """Whether all the weights are there, under the names of a bare model, in fp32."""
    import torch

    parts = (
        *("attention.self.query", "attention.self.key", "attention.self.value"),
        *("attention.output.dense", "attention.output.LayerNorm"),
        *("intermediate.dense", "output.dense", "output.LayerNorm"),
    )
    tables = ("word", "position", "token_type")
    needed = [f"embeddings.{table}_embeddings.weight" for table in tables]
    pairs = ["embeddings.LayerNorm"]
    pairs += [f"encoder.layer.{number}.{part}" for number in range(shape.layers) for part in parts]
    needed += [f"{pair}.{kind}" for pair in pairs for kind in ("weight", "bias")]
    if not all(name in weights and weights[name].dtype == torch.float32 for name in needed):
        return False
    stray = [name for name in weights if name.startswith("encoder.") and name not in needed]
    return not stray  # a layer more, an adapter: another model than this one
