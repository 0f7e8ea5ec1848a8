"""Token embeddings of a step, gathered once for all its sub-batches.

A model's table of token embeddings has 30,000 rows or, for multilingual models, 250,000, of which a
step reads a few hundred. Left to itself, torch makes a gradient as large as the table for each
sub-batch, fills it with zeros and adds it up: a seventh of a MiniLM step on two cores. Here the
rows that a step reads are a table of their own, whose gradient is put into the large one once. And
where several processes train together, only these rows travel between them. (Recorded passes need
them to stay where they are in memory: there they are the rows that any text of the training reads.)
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monoglot.learning.devices import placed
from monoglot.learning.ranks import Ranks

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of a table of token embeddings that are read.

    Attributes:
        read: (n,) token ids, distinct and ascending, on the model's device.
        weights: (n, d) of these, a leaf of the graph; filled in by `gathered`.
    """

    read: "Tensor"
    weights: "Tensor"


class TableGradient:
    """The gradient of one model's table of token embeddings, in memory that stays.

    What drops a gradient gives back its memory, as large as the table, and asks for it again in
    each step, page by page: a thirtieth of a MiniLM step on two cores. So the memory is there in
    forward passes, too, and a gradient that is held from an earlier step is overwritten.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def add(self, table: Any, read: "Tensor", gradient: "Tensor") -> None:
        """Add the gradient of the rows `read` to the table's, which may have been dropped."""
        import torch

        if table.weight.grad is None:
            if self._kept is None:
                self._kept = torch.empty_like(table.weight)
            table.weight.grad = self._kept.zero_()
        table.weight.grad.index_add_(0, read, gradient)


def rows_of(model: "SentenceTransformer", read: "Tensor | None") -> Rows | None:
    """Space for the rows of these token ids.

    None where the ids are not known, or where the model's embeddings are no plain table that is
    trained (static ones, or frozen ones under an adapter).
    """
    table = None if read is None else table_of(model)
    if read is None or table is None:
        return None
    weights = table.weight.detach().new_empty(len(read), table.weight.shape[1])
    return Rows(placed(read, table.weight.device), weights.requires_grad_())


@contextlib.contextmanager
def gathered(
    model: "SentenceTransformer", rows: Rows | None, ranks: Ranks, gradient: TableGradient
) -> Iterator[None]:
    """Forward and backward passes inside the block read and fill fewer rows.

    After it, the gradients are those without it, summed over the ranks.

    Args:
        model: in training; among several ranks its gradients are none or zero before the block.
        rows: of the token ids that any rank reads in this step; None: the model is read as it is.
        ranks: who trains together.
        gradient: of the table, of this training.
    """
    import torch

    if rows is None:
        yield
        ranks.sum([weights.grad for weights in model.parameters() if weights.grad is not None])
        return
    table, read = table_of(model), rows.read
    torch.index_select(table.weight.detach(), 0, read, out=rows.weights.detach())
    if rows.weights.grad is not None:
        rows.weights.grad.zero_()

    def looked_up(ids: "Tensor") -> "Tensor":
        return torch.nn.functional.embedding(torch.searchsorted(read, ids), rows.weights)

    table.forward = looked_up
    try:
        yield
    finally:
        del table.forward  # the class's own is there again
    if rows.weights.grad is None:
        return
    if table.padding_idx is not None:
        rows.weights.grad[read == table.padding_idx] = 0
    others = [weights.grad for weights in model.parameters() if weights is not table.weight]
    ranks.sum([rows.weights.grad, *(its for its in others if its is not None)])
    gradient.add(table, read, rows.weights.grad)


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
