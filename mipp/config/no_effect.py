"""Settings that change nothing beside others: refused, so that nobody believes in them.

Only a value that differs from its default is refused: params.yaml states every default, whether
it matters or not. A row says which fields are idle, what decides that, and when it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from mipp.augment_names import steps_of
from mipp.errors import ConfigError
from mipp.settings import ESTIMATOR_NAMES, MIPP

EMBEDDED = ("digits", "digits-deformed")
# of built-in sets, those that nobody fetches
LOCAL = (*EMBEDDED, "image-folder", "parquet", "webdataset", "huggingface")


class Idle(NamedTuple):
    """A setting without effect, the parameter that makes it so, and how to mend that."""

    field: str
    decider: str
    mend: str


class _Row(NamedTuple):
    fields: str  # `section.a b c`, or `section.*` for all of a section
    decider: str
    holds: Callable[[Any], bool]  # on all parameters
    mend: str


def _extracts_alone(params: Any) -> bool:
    """Whether stage `extract` shares the images out by itself."""
    return bool(params.choose.method == MIPP and params.extract.shards == 1)


def _budgets(params: Any) -> set[str]:
    """Kinds of the budget and of those that it is compared with."""
    return {budget.kind for budget in (params.choose.budget, *params.choose.compare)}


def _rival(params: Any) -> bool:
    return bool(params.choose.method != MIPP)


def _late(params: Any) -> bool:
    return bool(params.train.when == "after-pruning")


def _one_start(params: Any) -> bool:
    """Whether there is nothing to choose from."""
    both = params.finetune.start == "best" and params.prune.recalibrate
    return not (params.prune.refit or both)


def _unread(params: Any, name: str) -> bool:
    """Whether the estimator is one of ours, and its settings have no such field."""
    kinds = {known: kind for kind, known in ESTIMATOR_NAMES.items()}
    kind = kinds.get(params.choose.estimator)
    return kind is not None and name not in {field.name for field in fields(kind)}


_READERS = (
    ("resolution ridge", "gaussian"),
    ("rows held_out width depth epochs patience batch_size lr retrain_epochs retrain_lr",
     "reconstruction"),
)  # fmt: skip
_TRAINS = "set train.epochs or finetune.epochs above 0"
_REFITS = "set prune.refit=true"
_BEFORE = "set train.when=before-pruning"
_TESTS = "set choose.budget=confidence:95"
_ROWS: tuple[_Row, ...] = (
    _Row("data.root", "data.name", lambda p: p.data.name in EMBEDDED, "choose another data.name"),
    _Row("data.download", "data.name", lambda p: p.data.name in LOCAL, "set data.root instead"),
    _Row(
        "data.augment",
        "train.epochs",
        lambda p: not (p.train.epochs or p.finetune.epochs),
        _TRAINS,
    ),
    _Row(
        "data.crop_padding",
        "data.augment",
        lambda p: "crop" not in steps_of(p.data.augment),
        "set data.augment=crop",
    ),
    _Row("model.narrow_heads", "train.when", _late, _BEFORE),
    _Row(
        "choose.estimator order price worth position_weight param_weight margin sure",
        "choose.method",
        _rival,
        "set choose.method=mipp",
    ),
    _Row("estimate.*", "choose.method", _rival, "set choose.method=mipp"),
    _Row("extract.inputs", "choose.method", _rival, "set choose.method=mipp"),
    _Row(
        "choose.scope batch_size",
        "choose.method",
        lambda p: not _rival(p),
        "choose a rival, such as choose.method=l1",
    ),
    _Row(
        "choose.drop_confidence",
        "choose.budget",
        lambda p: "drop" not in _budgets(p),
        "set choose.budget=drop:1",
    ),
    _Row("choose.margin sure", "choose.budget", lambda p: "confidence" not in _budgets(p), _TESTS),
    _Row(
        "choose.price",
        "choose.budget",
        lambda p: _budgets(p) == {"confidence"},
        "choose another budget",
    ),
    _Row(
        "choose.worth param_weight",
        "choose.budget",
        lambda p: _budgets(p) <= {"confidence", "nats"},
        "choose another budget",
    ),
    _Row(
        "choose.param_weight",
        "choose.price",
        lambda p: p.choose.price not in ("unit", "budget"),
        "set choose.price=unit",
    ),
    _Row(
        "choose.param_weight",
        "choose.budget",
        lambda p: p.choose.price == "budget" and "ratio" not in _budgets(p),
        "set choose.price=unit",
    ),
    *(
        _Row(
            f"estimate.{name}",
            "choose.estimator",
            lambda p, name=name: _unread(p, name),  # type: ignore[misc]
            f"set choose.estimator={reader}",
        )
        for names, reader in _READERS
        for name in names.split()
    ),
    _Row(
        "estimate.repeats",
        "choose.budget",
        lambda p: p.choose.estimator == "gaussian" and "confidence" not in _budgets(p),
        _TESTS + ", or choose.estimator=reconstruction",
    ),
    _Row("prune.*", "train.when", _late, _BEFORE),
    _Row("prune.ridge images rows repair", "prune.refit", lambda p: not p.prune.refit, _REFITS),
    _Row(
        "prune.steps views",
        "prune.repair",
        lambda p: p.prune.repair != "distill",
        "set prune.repair=distill",
    ),
    _Row(
        "prune.batch_size",
        "prune.refit",
        lambda p: not (p.prune.refit or p.prune.recalibrate),
        _REFITS + " or prune.recalibrate=true",
    ),
    _Row("finetune.*", "train.when", _late, _BEFORE),
    _Row("finetune.start", "prune.refit", _one_start, _REFITS),
    _Row(
        "finetune.batch_size optimizer lr momentum weight_decay schedule milestones warmup "
        "accumulate clip label_smoothing ema patience precision channels_last compile distill "
        "features rounds",
        "finetune.epochs",
        lambda p: p.finetune.epochs == 0,
        "set finetune.epochs=10",
    ),
    _Row(
        "finetune.round_budgets",
        "finetune.rounds",
        lambda p: p.finetune.rounds == 1,
        "set finetune.rounds=3",
    ),
    _Row(
        "finetune.temperature",
        "finetune.distill",
        lambda p: not p.finetune.distill,
        "set finetune.distill=0.5",
    ),
    *(
        row
        for section in ("train", "finetune")
        for row in (
            _Row(
                f"{section}.milestones",
                f"{section}.schedule",
                lambda p, section=section: getattr(p, section).schedule != "step",  # type: ignore[misc]
                f"set {section}.schedule=step",
            ),
            _Row(
                f"{section}.warmup",
                f"{section}.schedule",
                lambda p, section=section: getattr(p, section).schedule == "onecycle",  # type: ignore[misc]
                f"set {section}.schedule=cosine",
            ),
        )
    ),
    _Row("train.slimming", "train.when", _late, _BEFORE),
    _Row("train.slimming", "train.epochs", lambda p: p.train.epochs == 0, "set train.epochs=20"),
    _Row(
        "compute.devices",
        "train.epochs",
        lambda p: not (p.train.epochs or p.finetune.epochs or _extracts_alone(p)),
        _TRAINS,
    ),
    _Row(
        "compute.strategy",
        "compute.devices",
        lambda p: p.compute.devices == 1,
        "set compute.devices to how many train",
    ),
    _Row(
        "compute.address cpus_per_task gpus_per_task",
        "compute.runner",
        lambda p: p.compute.runner != "ray",
        "set compute.runner=ray to work on a cluster",
    ),
    _Row(
        "compute.workers",
        "compute.runner",
        lambda p: p.compute.runner == "serial",
        "set compute.runner=threads",
    ),
    _Row(
        "tracking.experiment",
        "tracking.uri",
        lambda p: p.tracking.uri is None,
        "set tracking.uri=sqlite:///mlflow.db",
    ),
)


def idle_settings(params: Any) -> Iterator[Idle]:
    """Every setting that differs from its default and changes nothing, each once.

    Parameters
    ----------
    params : all sections.
    """
    said: set[str] = set()
    for row in _ROWS:
        section, _, names = row.fields.partition(".")
        values = getattr(params, section)
        fields = type(values).model_fields
        for name in fields if names == "*" else names.split():
            field = f"{section}.{name}"
            changed = getattr(values, name) != fields[name].default
            if changed and field not in said and row.holds(params):
                said.add(field)
                yield Idle(field, row.decider, row.mend)


def value_of(params: Any, field: str) -> Any:
    """Value of a `section.name`."""
    section, _, name = field.partition(".")
    return getattr(getattr(params, section), name)


def refuse_idle(params: Any) -> None:
    """Refuse settings that change nothing.

    Raises
    ------
    ConfigError : names the first, what decides that it has no effect, and how it would have one.
    """
    for field, decider, mend in idle_settings(params):
        raise ConfigError(
            f"{field} has no effect with {decider}={value_of(params, decider)}.\nExpected it to be "
            f"left out, got {value_of(params, field)!r}; {mend}."
        )
