"""Weight merging: a fine-tuned model drawn back a little towards the one it came from.

Averaging the weights of a model before and after fine-tuning keeps more of what the base knew at
nearly the same accuracy (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv
2109.01903). On Hinglish-TOP validation it raised hit@3 and English and lowered MRR slightly.
"""

from monoglot.learning.encoder import Encoder


def merge(tuned: Encoder, base: Encoder, base_weight: float) -> None:
    """Set the tuned encoder's weights to `(1 - base_weight) * tuned + base_weight * base`.

    Args:
        tuned: changed in place; its digest no longer holds until it is saved and loaded again.
        base: the model it was fine-tuned from.
        base_weight: in [0, 1]; 0 changes nothing.
    """
    import torch

    before = base.model.state_dict()
    merged: set[int] = set()  # weights that are tied stand there under several names
    with torch.no_grad():
        for name, weights in tuned.model.state_dict().items():
            if weights.is_floating_point() and weights.data_ptr() not in merged:
                weights.lerp_(before[name].to(weights.device), base_weight)
                merged.add(weights.data_ptr())
