"""Every parameter of a run: frozen sections with their defaults and bounds.

Where a bound is one of the core's, in `mipp/settings.py`, so is the default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mipp.augment_names import Augment, parse_augment
from mipp.bounds import Channels, Confidence, Count, Margin, Positive, Repeats, Share
from mipp.budget import Budget, parse_budget
from mipp.config.no_effect import refuse_idle
from mipp.errors import ConfigError
from mipp.settings import (
    DROP_CONFIDENCE,
    LATENCY_BATCH,
    MIPP,
    NARROW_HEADS,
    Criterion,
    Distill,
    Gaussian,
    Limits,
    Mipp,
    Order,
    Price,
    Reconstruction,
    Refit,
    Scope,
    Sure,
    Views,
    Worth,
)

Part = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1000)]
BudgetText = Annotated[
    Budget,
    PlainValidator(lambda value: value if isinstance(value, Budget) else parse_budget(value)),
    PlainSerializer(str, return_type=str),
]  # a value here, text in every file and on every command line
IDLE_TAKEN = "settings without effect are taken"


class Section(BaseModel):
    """One section of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """True and false are neither numbers nor words."""
        kind = cls.model_fields[info.field_name or ""].annotation
        listed = value if isinstance(value, (list, tuple)) else [value]
        if bool not in (kind, *get_args(kind)) and any(isinstance(one, bool) for one in listed):
            raise PydanticCustomError("truth", "A number or a word")
        return value


class DataConfig(Section):
    """Which images, where they are, how they are split and prepared.

    `workers` changes no image: stages and points leave it out of what they depend on.
    """

    name: str = "digits"
    root: str | None = None
    limit: Count | None = None
    calibration: Count = 1024
    calibration_sample: Literal["random", "balanced"] = "random"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    size: Annotated[int, Field(ge=8, le=8192)] | None = None
    prepare: Annotated[str, Field(pattern=r"^(set|weights(:\w+)?)$")] = "set"
    resize: Annotated[int, Field(ge=8, le=8192)] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = None
    augment: Annotated[Augment, BeforeValidator(parse_augment)] = "none"
    crop_padding: Count | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    download: bool = False
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None


class ModelConfig(Section):
    """Which network, and the weights it starts from (none: random)."""

    name: str = "lenet5"
    weights: str | None = None
    narrow_heads: Share = NARROW_HEADS


class OptimConfig(Section):
    """What training and fine-tuning share."""

    epochs: Annotated[int, Field(ge=0, lt=2**31)] = 20
    batch_size: Count = 64
    optimizer: str = "sgd"
    lr: Rate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "onecycle"
    milestones: tuple[Part, ...] = (0.5, 0.75)
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    accumulate: Count = 1
    clip: Annotated[float, Field(gt=0)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Part | None = None
    patience: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False


class TrainConfig(OptimConfig):
    """Training of the dense network, or after pruning at initialisation of the pruned one.

    Zero epochs hand the given weights on.
    """

    slimming: Annotated[float, Field(ge=0)] = 0.0
    when: Literal["before-pruning", "after-pruning"] = "before-pruning"


class ExtractConfig(Section):
    """Which activation rows are kept per layer pair, and how many.

    `shards` changes no row: stages and points leave it out of what they depend on.
    """

    rows: Count = Mipp.rows
    batch_size: Count = 256
    inputs: Literal["none", "pixels"] = "none"
    shards: Count = 1


class EstimateConfig(Section):
    """Settings of the information estimators."""

    resolution: Positive = Gaussian.resolution
    ridge: Positive = Gaussian.ridge
    repeats: Repeats = Gaussian.repeats
    rows: Count = Reconstruction.rows
    held_out: Count = Reconstruction.held_out
    width: Count = Reconstruction.width
    depth: Count = Reconstruction.depth
    epochs: Count = Reconstruction.epochs
    patience: Count = Reconstruction.patience
    batch_size: Count = Reconstruction.batch_size
    lr: Rate = Reconstruction.lr
    retrain_epochs: Count = Reconstruction.retrain_epochs
    retrain_lr: Rate = Reconstruction.retrain_lr


class ChooseConfig(Section):
    """What decides which units stay."""

    method: str = MIPP
    estimator: str = "gaussian"
    order: Order = Mipp.order
    budget: BudgetText = Budget("macs", 0.5)
    drop_confidence: Confidence = DROP_CONFIDENCE
    compare: tuple[BudgetText, ...] = ()
    price: Price = Mipp.price
    scope: Scope = Criterion.scope
    batch_size: Count = 256
    worth: Worth = Mipp.worth
    position_weight: Share = Mipp.position_weight
    param_weight: Share = Mipp.param_weight
    min_channels: Channels = Limits.min_channels
    round_to: Count = Limits.round_to
    limits: dict[str, Share] = {}
    ignore: tuple[str, ...] = ()
    keep_outputs: tuple[str, ...] = ()
    keep_inputs: tuple[str, ...] = ()
    margin: Margin = Mipp.margin
    sure: Sure = Mipp.sure

    @property
    def tries_networks(self) -> bool:
        """Whether networks are cut, repaired and scored before one is chosen."""
        return self.budget.is_searched or bool(self.compare)


class PruneConfig(Section):
    """What follows the cut without labels."""

    refit: bool = True
    recalibrate: bool = True
    repair: Literal["refit", "distill"] = "refit"
    steps: Count = Distill.steps
    views: Views = Distill.views
    ridge: Positive = Refit.ridge
    images: Count = 1024
    batch_size: Count = 1024
    rows: Count = Refit.rows


class FinetuneConfig(OptimConfig):
    """Fine-tuning of the pruned network, by labels alone or with the dense one as a teacher.

    `distill` is the weight of its answers, at a `temperature`, beside the labels; `features`
    that of what later layers read. In several `rounds` it is pruned on in between, and `epochs` are
    those of all together.
    """

    epochs: Annotated[int, Field(ge=0, lt=2**31)] = 10
    lr: Rate = 0.02
    rounds: Annotated[int, Field(ge=1, le=1000)] = 1
    round_budgets: Literal["cubic", "geometric"] = "cubic"
    start: Literal["refit", "pruned", "best"] = "refit"
    distill: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Annotated[float, Field(gt=0, le=1000)] = 4.0
    features: Annotated[float, Field(ge=0, le=1000)] = 0.0

    @model_validator(mode="after")
    def _every_round_has_epochs(self) -> FinetuneConfig:
        if 0 < self.epochs < self.rounds:
            raise ConfigError(
                f"finetune.rounds={self.rounds} cannot share out finetune.epochs={self.epochs}.\n"
                "Expected an epoch for each round, got fewer; set finetune.epochs="
                f"{self.rounds} or more."
            )
        if self.compile and self.features:
            raise ConfigError(
                "finetune.compile=true hides what layers read from finetune.features."
                f"\nExpected one of them, got features {self.features:g}; set "
                "finetune.compile=false."
            )
        return self


class EvaluateConfig(Section):
    """How accuracy and latency are measured, and what the final network is exported to."""

    batch_size: Count = 500
    latency_batch: Count = LATENCY_BATCH
    latency_repeats: Count = 15
    export: tuple[Literal["torch", "onnx"], ...] = ("torch",)


class ReportConfig(Section):
    """What the report says at its top."""

    title: str = "Mutual information preserving pruning"


class ComputeConfig(Section):
    """Where and how wide the work runs."""

    device: str = "auto"
    devices: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    runner: Literal["serial", "threads", "ray"] = "threads"
    workers: Count = 2
    address: str | None = None
    cpus_per_task: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_task: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _workers_hold_what_there_is(self) -> ComputeConfig:
        for name in ("cpus_per_task", "gpus_per_task"):
            self._require_whole_above_one(name)
        if self.gpus_per_task and self.device == "cpu":
            raise ConfigError(
                f"compute.gpus_per_task={self.gpus_per_task:g} holds GPUs that compute.device=cpu "
                "leaves idle.\nExpected 0 of them, or device auto or cuda, got cpu; set "
                "compute.gpus_per_task=0 or compute.device=cuda."
            )
        return self

    def _require_whole_above_one(self, name: str) -> None:
        value = getattr(self, name)
        if value > 1 and value % 1:
            raise ConfigError(
                f"compute.{name} cannot be shared out.\nExpected a share below 1, or a whole "
                f"number, as Ray does, got {value:g}; set compute.{name}={round(value)}."
            )


class TrackingConfig(Section):
    """Where MLflow keeps its runs (no address: nothing is tracked)."""

    uri: str | None = "sqlite:///mlflow.db"
    experiment: str = "mipp"


class Params(Section):
    """All sections; the names of the first eight after `model` are the stages."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    extract: ExtractConfig = ExtractConfig()
    estimate: EstimateConfig = EstimateConfig()
    choose: ChooseConfig = ChooseConfig()
    prune: PruneConfig = PruneConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self, info: ValidationInfo) -> Params:
        if info.context is not IDLE_TAKEN:
            refuse_idle(self)
        return self
