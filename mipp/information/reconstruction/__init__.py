"""The paper's estimator: information is the drop in the error of a perceptron that predicts.

settings     how the perceptrons are built and trained
rows         rows as they see them: standardised, the null column last
perceptron   many small networks side by side
state        trained once per pair; single and joint information
estimator    `state` as one of the estimators: its file, its answers
elimination  masked re-training, asked about one channel after another
"""

from mipp.information.reconstruction.state import (
    ReconstructionInformation,
    ReconstructionState,
    from_tensors,
    prepare,
)

__all__ = ["ReconstructionInformation", "ReconstructionState", "from_tensors", "prepare"]
