"""Repairs a pruned network without training: least-squares refit and batch-norm statistics."""

from mipp.refit.least_squares import LayerFit
from mipp.refit.outputs import output_error, outputs_of
from mipp.refit.rebase import NormInputs
from mipp.refit.recalibrate import recalibrate
from mipp.refit.refit import RefitSettings, refit

__all__ = [
    "LayerFit",
    "NormInputs",
    "RefitSettings",
    "output_error",
    "outputs_of",
    "recalibrate",
    "refit",
]
