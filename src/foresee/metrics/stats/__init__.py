"""Rates and their intervals, times to an event, comparisons, and the claims that rest on them."""

from __future__ import annotations

from foresee.metrics.stats.claim import Claim, Evidence, claims_of
from foresee.metrics.stats.comparisons import at_least, binomial, differ, equivalence, fisher, mcnemar, sign_flip
from foresee.metrics.stats.correction import holm
from foresee.metrics.stats.log_rank import log_rank
from foresee.metrics.stats.rates import Row, rate, share_solved, wilson
from foresee.metrics.stats.survival import Curve, Times, kaplan_meier, median, restricted_mean

__all__ = [
    "Claim", "Curve", "Evidence", "Row", "Times", "at_least", "binomial", "claims_of", "differ", "equivalence",
    "fisher", "holm", "kaplan_meier", "log_rank", "mcnemar", "median", "rate", "restricted_mean", "share_solved",
    "sign_flip", "wilson",
]  # fmt: skip
