"""What a rival criterion says of every channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Scores = Mapping[str, npt.NDArray[np.float64]]  # group -> score per channel, higher means keep
