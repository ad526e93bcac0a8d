"""What may vary training images at random: steps, and presets that are made of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mipp.errors import ConfigError, did_you_mean

STEPS = (  # in the order in which they follow one another
    "resized-crop",
    "crop",
    "flip",
    "randaugment",
    "trivialaugment",
    "cutout",
    "mixup",
    "cutmix",
)
PRESETS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    **{step: (step,) for step in STEPS},
    "crop-flip": ("crop", "flip"),
    "resized-crop-flip": ("resized-crop", "flip"),
    "cifar": ("crop", "flip"),
    "imagenet-train": ("resized-crop", "flip"),
}
BY_BATCH = ("crop", "crop-flip")  # whose shifts depend on the size of the batches, as ever
_NEITHER = (("resized-crop", "crop"), ("randaugment", "trivialaugment"))  # with the other

Augment = str | tuple[str, ...]


def steps_of(augment: Augment) -> tuple[str, ...]:
    """The steps of a name or of a list of names, in the order in which they are done.

    >>> steps_of("cifar"), steps_of(("mixup", "randaugment", "imagenet-train"))
    (('crop', 'flip'), ('resized-crop', 'flip', 'randaugment', 'mixup'))
    """
    names = (augment,) if isinstance(augment, str) else augment
    return tuple(sorted((step for name in names for step in PRESETS[name]), key=STEPS.index))


def parse_augment(value: object) -> Augment:
    """A name, or a tuple of names, as `data.augment` takes them.

    Raises
    ------
    ConfigError : a name is unknown, a step is there twice, or two exclude one another.
    """
    names = [value] if isinstance(value, str) else value
    key = "data.augment"
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{key} cannot be read.\nExpected a name such as imagenet-train, or a list of names, "
            f"got {value!r}; write {key}=[imagenet-train, randaugment]."
        )
    for name in names:
        if name not in PRESETS:
            raise ConfigError(
                f"{key} {name!r} is unknown.\nExpected names of steps or presets, got {name!r}; "
                f"{did_you_mean(name, PRESETS)}."
            )
    steps = steps_of(tuple(names))
    twice = [f"{step} twice" for step in STEPS if steps.count(step) > 1]
    both = [" and ".join(pair) for pair in _NEITHER if {*pair} <= {*steps}]
    if wrong := both + twice:
        raise ConfigError(
            f"{key} asks for {wrong[0]}.\nExpected each step once, one kind of crop, and one of "
            f"automatic augmentation, got {', '.join(names)}; leave one out."
        )
    return value if isinstance(value, str) else tuple(names)
