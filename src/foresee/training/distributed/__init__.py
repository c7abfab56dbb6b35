"""One run on several processes: who takes part, what each trains with, and how they stay of one mind."""

from foresee.training.distributed.agreement import Agreement
from foresee.training.distributed.replica import Replica, Whole, replica_of
from foresee.training.distributed.waiting import LostProcessError, OtherProcessError, losses_explained
from foresee.training.distributed.world import ALONE, World, described_size, joined

__all__ = [
    "ALONE", "Agreement", "LostProcessError", "OtherProcessError", "Replica", "Whole", "World", "described_size",
    "joined", "losses_explained", "replica_of",
]  # fmt: skip
