"""One run on several processes: who takes part, what each trains with, and how they stay of one mind."""

from foresee.parallel.agreement import Agreement
from foresee.parallel.replica import Replica, Whole, replica_of
from foresee.parallel.waiting import LostProcessError, OtherProcessError, losses_explained
from foresee.parallel.world import ALONE, World, described_size, joined

__all__ = [
    "ALONE", "Agreement", "LostProcessError", "OtherProcessError", "Replica", "Whole", "World", "described_size",
    "joined", "losses_explained", "replica_of",
]  # fmt: skip
