"""Any classification network of torchvision, by its name there."""

from __future__ import annotations

from torch import nn

from mipp.errors import ModelError

# forward returns a tuple while training unless the auxiliary heads are left out
_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
_FIXED_SIZES = {"inception": 299, "maxvit": 224, "swin": 224, "vit": 224}


def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's classification networks."""
    from mipp.vision import torchvision  # a second of import, which our networks should not pay

    return tuple(torchvision.models.list_models(module=torchvision.models))


def build_torchvision_model(name: str, classes: int, channels: int) -> nn.Module:
    """Network with random weights and `classes` outputs.

    Raises
    ------
    ModelError : `channels` is not 3.
    """
    from mipp.vision import torchvision

    if channels != 3:
        raise ModelError(
            f"model 'torchvision/{name}' does not fit its input.\n"
            f"Expected images of 3 channels, got {channels}.\n"
            "Repeat grey images to 3 channels, or choose a model of mipp itself."
        )
    options = _OPTIONS.get(name, {})
    model: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=classes, **options
    )
    return model


def torchvision_size(name: str) -> int | None:
    """Image size that the network insists on or was made for; None if any will do."""
    return _FIXED_SIZES.get(name.partition("_")[0])
