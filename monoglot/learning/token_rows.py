"""Token embeddings of a step, gathered once for all its sub-batches.

A model's table of token embeddings has 30,000 rows or, for multilingual models, 250,000, of which a
step reads a few hundred. Left to itself, torch makes a gradient as large as the table for each
sub-batch, fills it with zeros and adds it up: a seventh of a MiniLM step on two cores. Here the
rows that a step reads are a table of their own, whose gradient is put into the large one once. And
where several processes train together, only these rows travel between them.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from monoglot.learning.devices import placed
from monoglot.learning.ranks import Ranks

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor


@contextlib.contextmanager
def gathered(model: "SentenceTransformer", read: "Tensor | None", ranks: Ranks) -> Iterator[None]:
    """Forward and backward passes inside the block read and fill fewer rows.

    After it, the gradients are those without it, summed over the ranks. A model whose embeddings
    are no plain table that is trained (static ones, or frozen ones under an adapter) is read as it
    is.

    Args:
        model: in training; among several ranks it has no gradients before the block.
        read: the token ids, distinct and ascending, that any rank reads in this step; None: they
            are not known.
        ranks: who trains together.
    """
    import torch

    table = None if read is None else table_of(model)
    if read is None or table is None:
        yield
        ranks.sum([weights.grad for weights in model.parameters() if weights.grad is not None])
        return
    read = placed(read, table.weight.device)
    rows = table.weight.detach()[read].requires_grad_()

    def looked_up(ids: "Tensor") -> "Tensor":
        return torch.nn.functional.embedding(torch.searchsorted(read, ids), rows)

    table.forward = looked_up
    try:
        yield
    finally:
        del table.forward  # the class's own is there again
    if rows.grad is None:
        return
    if table.padding_idx is not None:
        rows.grad[read == table.padding_idx] = 0
    others = [weights.grad for weights in model.parameters() if weights is not table.weight]
    ranks.sum([rows.grad, *(gradient for gradient in others if gradient is not None)])
    if table.weight.grad is None:
        table.weight.grad = torch.zeros_like(table.weight)
    table.weight.grad.index_add_(0, read, rows.grad)


def table_of(model: "SentenceTransformer") -> Any:
    """The plain, trained table of token embeddings; None where there is none."""
    import torch

    inner = model.transformers_model
    table = None if inner is None else inner.get_input_embeddings()
    if type(table) is not torch.nn.Embedding or not table.weight.requires_grad:
        return None
    if table.max_norm is not None or table.scale_grad_by_freq or table.sparse:
        return None
    return table
