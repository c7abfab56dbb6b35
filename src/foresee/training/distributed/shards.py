"""A model in shards: parameters of which every process holds a part, gathered layer by layer as they are needed.

PyTorch's ``fully_shard``: each layer's parameters are gathered before it computes and let go after it, forward and
backward; what belongs to no layer (tables of tokens, heads) is gathered for as long as a step or a measurement lasts.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from foresee.training.distributed.world import World


def shard(root: nn.Module, parts: Sequence[nn.Module], device: str, world: World) -> None:
    """Leaves each process its part of the parameters of ``root``, on ``device``. Each of ``parts``, inner ones first,
    is gathered on its own; those that share parameters are not, and so are gathered with what is around them."""
    mesh = init_device_mesh(device, (world.size,))
    counts: dict[int, int] = {}
    for part in parts:
        for parameter in {id(parameter) for parameter in _outside_of_inner(part, parts)}:
            counts[parameter] = counts.get(parameter, 0) + 1
    for part in parts:
        own = list(_outside_of_inner(part, parts))
        if own and all(counts[id(parameter)] == 1 for parameter in own):
            fully_shard(part, mesh=mesh)
    fully_shard(root, mesh=mesh)


def _outside_of_inner(part: nn.Module, parts: Sequence[nn.Module]) -> Sequence[nn.Parameter]:
    """Parameters of a part that no other part within it holds."""
    within = {id(module) for module in part.modules()} - {id(part)}
    inner = {id(each) for other in parts if id(other) in within for each in other.parameters()}
    return [parameter for parameter in part.parameters() if id(parameter) not in inner]


def let_go(root: nn.Module) -> None:
    """Back to shards, whatever is gathered."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """The same tensors, those in shards gathered one at a time onto the CPU of the first process; of others, which have
    a part in this all the same, nothing."""
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if world.leads:
            kept[name] = full.detach().cpu()
    return kept


def placed_like(value: Tensor, like: Tensor) -> Tensor:
    """``value``, the same on every process, where and in shards as ``like`` is."""
    if isinstance(like, DTensor):
        # No source: each process takes its part of what it has, and nothing is sent.
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return value.to(like.device)
