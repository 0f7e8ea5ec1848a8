"""LoRA: training a few low-rank matrices beside frozen weights (Hu et al., arXiv 2106.09685).

The optimiser then keeps moments of a hundredth of the weights, which is what makes a large base
model fit. After training they are merged into the weights, so that all that follows, from merging
with the base to the release, sees a plain model.
"""

from importlib.util import find_spec

from monoglot.errors import ConfigError
from monoglot.learning.encoder import Encoder


def add_adapter(encoder: Encoder, rank: int, seed: int) -> None:
    """Freeze the model and put adapters of a rank beside all its linear layers.

    The scale is 2 (alpha twice the rank); `B` starts at zero, so that the model starts as it is,
    and `A` at random, by the seed.

    Raises:
        ConfigError: peft is not installed, or the model has no linear layers to adapt.
    """
    if encoder.model.transformers_model is None:
        raise ConfigError(
            "fine_tuning.lora_rank: the base model is no transformer and has no layers to adapt. "
            "Set it to 0, which trains all weights."
        )
    if find_spec("peft") is None:
        raise ConfigError(
            "fine_tuning.lora_rank: LoRA needs the package peft, which is not installed: "
            "pip install 'monoglot[lora]', or set it to 0, which trains all weights."
        )
    import torch
    from peft import LoraConfig

    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder.model.add_adapter(lora)


def merge_adapter(encoder: Encoder) -> None:
    """Add the adapters to the weights they stand beside, and take them out of the model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    transformer = encoder.model.transformers_model
    assert transformer is not None
    adapted = [
        (name, layer)
        for name, layer in transformer.named_modules()
        if isinstance(layer, BaseTunerLayer)
    ]
    for name, layer in adapted:
        layer.merge()
        transformer.set_submodule(name, layer.get_base_layer())
    for weights in transformer.parameters():
        weights.requires_grad_(requires_grad=True)
    encoder.model.transformers_model._hf_peft_config_loaded = False
