"""Networks by name, and the weights they start from."""

from mipp.models.published import images_of_weights
from mipp.models.table import (
    MODELS,
    ModelSpec,
    build_model,
    make_model,
    preferred_input,
    register_model,
)
from mipp.models.weights import load_weights

__all__ = [
    "MODELS",
    "ModelSpec",
    "build_model",
    "images_of_weights",
    "load_weights",
    "make_model",
    "preferred_input",
    "register_model",
]
