"""The closed form: information of least-squares predictors, and what each channel adds.

state      what is paid for once per pair, from moments or from few rows; answers at once
blocks     one channel's block: variance it explains, nats that go with it
ordered    downdates along an order that is known beforehand, the cheapest
primal     downdates in any order
precision  the matrix that these read: whole, or of fewer rows than features
panel      the channels at hand of `ordered` and `primal`, in the CPU's cache
sides      what drops have taken from the precision by now
drops      the same of walks before, which the next one recalls
cost       operations and bytes by a pair's size, and which form has fewer
aside      states in a file, where all together would fill the memory
estimator  `state` as one of the estimators: its file, its answers
folds      samples for a test of significance, one per fold of the rows
inverse    of a positive definite matrix; `arrowhead` that of small maps' patches
"""

from mipp.information.gaussian.aside import StateAside, is_worthwhile, keeping
from mipp.information.gaussian.cost import prefers_dual
from mipp.information.gaussian.state import (
    PairState,
    from_tensors,
    prepare,
    prepare_dual,
    prepare_rows,
)

__all__ = [
    "PairState",
    "StateAside",
    "from_tensors",
    "is_worthwhile",
    "keeping",
    "prefers_dual",
    "prepare",
    "prepare_dual",
    "prepare_rows",
]
