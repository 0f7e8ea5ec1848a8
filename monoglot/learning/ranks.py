"""`Ranks`: what the processes that train one model together tell one another at each step.

Every process (rank) knows all texts of a step and encodes its share of them. The vectors of all are
gathered, and each rank computes the loss of the whole batch on them: labels, their mask and every
negative are there, as they are for one process, whatever the objective. Each carries the gradients
of its own vectors into its weights, and these are summed. That is the gradient of the whole batch,
which the mean over ranks of losses on parts of it, as plain data parallelism has it, is not. The
loss itself costs next to nothing beside the encoding, and only vectors travel for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone where nothing is said.

    With others, torch's default process group must be there, and all ranks call the same methods in
    the same order.

    Attributes:
        rank: of this process, from 0.
        number: of processes.
    """

    rank: int = 0
    number: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Which of a step's texts are this rank's: sorted by length, each rank has every n-th."""
        return slice(self.rank, None, self.number)

    def gathered(self, own: "Tensor", count: int) -> "Tensor":
        """All vectors (count, d) from every rank's share of them; without a graph."""
        import torch

        own = own.detach()
        if self.number == 1:
            return own.clone()
        size = -(-count // self.number)
        part = own.new_zeros(size, own.shape[1])
        mine = len(range(count)[self.share])
        part[:mine] = own[:mine]
        parts = [torch.empty_like(part) for _ in range(self.number)]
        torch.distributed.all_gather(parts, part)
        return torch.stack(parts, dim=1).flatten(0, 1)[:count].contiguous()

    def sum(self, tensors: "Sequence[Tensor]") -> None:
        """Replace each tensor by its sum over the ranks, the same to the bit on all of them."""
        import torch

        if self.number == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def share_first(self, tensor: "Tensor") -> None:
        """Replace a tensor by the first rank's."""
        import torch

        if self.number > 1:
            torch.distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Until every rank is here."""
        import torch

        if self.number > 1:
            torch.distributed.barrier()
