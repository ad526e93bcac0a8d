"""Label-free distillation: a pruned network learns what the dense one computes of the same inputs.

`distill` trains, `lessons` are what it trains on with the dense network's answers, `views` says how
images are moved for that, `matched` which layers' inputs are compared beside the outputs.
"""

from mipp.distill.distill import Distilled, distill
from mipp.distill.lessons import held_out, is_held_out

__all__ = ["Distilled", "distill", "held_out", "is_held_out"]
