"""Settings without effect are refused, with what makes them so and what would mend it."""

import re

import pytest

import mipp
from mipp.config import Params, load_params
from mipp.errors import ConfigError
from mipp.experiments.points import expand
from mipp.experiments.spec import Experiment

RIVAL = ["choose.method=l1"]
LATE = ["train.when=after-pruning"]
PERCEPTRONS = ["choose.estimator=reconstruction"]
TESTED = ["choose.budget=confidence:95"]
OF_PERCEPTRONS = {
    "rows": 64, "held_out": 64, "width": 8, "depth": 2, "epochs": 3, "patience": 2,
    "batch_size": 32, "lr": 0.1, "retrain_epochs": 1, "retrain_lr": 0.1,
}  # fmt: skip
OF_TRAINING = {
    "batch_size": 8, "optimizer": "adamw", "lr": 0.3, "momentum": 0.5, "weight_decay": 0,
    "schedule": "constant", "label_smoothing": 0.1, "patience": 3, "precision": "bfloat16",
}  # fmt: skip

# Setting -> overrides beside which it changes nothing, and what then says so.
IDLE = [
    ("data.root=elsewhere", [], "data.name=digits"),
    ("data.root=elsewhere", ["data.name=digits-deformed"], "data.name=digits-deformed"),
    *(
        ("data.download=true", [f"data.name={name}"], f"data.name={name}")
        for name in ("digits", "image-folder", "parquet", "webdataset", "huggingface")
    ),
    ("data.augment=flip", ["train.epochs=0", "finetune.epochs=0"], "train.epochs=0"),
    ("data.crop_padding=1", ["data.augment=flip"], "data.augment=flip"),
    ("choose.estimator=reconstruction", RIVAL, "choose.method=l1"),
    ("choose.order=mi", RIVAL, "choose.method=l1"),
    ("choose.price=unit", RIVAL, "choose.method=l1"),
    ("choose.worth=nats", RIVAL, "choose.method=l1"),
    ("choose.position_weight=0", RIVAL, "choose.method=l1"),
    ("choose.param_weight=0", [*RIVAL, "choose.budget=ratio:0.5"], "choose.method=l1"),
    ("choose.margin=0", RIVAL, "choose.method=l1"),
    ("choose.sure=drop", RIVAL, "choose.method=l1"),
    ("choose.order=mi", ["choose.method=my.module:score"], "choose.method=my.module:score"),
    ("estimate.resolution=1", RIVAL, "choose.method=l1"),
    ("estimate.ridge=1", RIVAL, "choose.method=l1"),
    ("extract.inputs=pixels", RIVAL, "choose.method=l1"),
    ("choose.scope=layer", [], "choose.method=mipp"),
    ("choose.batch_size=8", [], "choose.method=mipp"),
    ("choose.margin=0", [], "choose.budget=macs:0.5"),
    ("choose.sure=drop", ["choose.budget=nats:1"], "choose.budget=nats:1"),
    ("choose.drop_confidence=0", [], "choose.budget=macs:0.5"),
    ("choose.price=macs", TESTED, "choose.budget=confidence:95"),
    ("choose.worth=nats", TESTED, "choose.budget=confidence:95"),
    ("choose.worth=nats", ["choose.budget=nats:1"], "choose.budget=nats:1"),
    ("choose.param_weight=0", [], "choose.budget=macs:0.5"),
    ("choose.param_weight=0", ["choose.price=macs"], "choose.price=macs"),
    ("choose.param_weight=0", ["choose.budget=nats:1"], "choose.budget=nats:1"),
    *((f"estimate.{k}={v}", [], "choose.estimator=gaussian") for k, v in OF_PERCEPTRONS.items()),
    ("estimate.ridge=1", PERCEPTRONS, "choose.estimator=reconstruction"),
    ("estimate.ridge=1", ["choose.estimator=neighbours"], "choose.estimator=neighbours"),
    ("estimate.lr=1", ["choose.estimator=histogram"], "choose.estimator=histogram"),
    ("estimate.depth=2", ["choose.estimator=infonce"], "choose.estimator=infonce"),
    ("estimate.repeats=3", [], "choose.budget=macs:0.5"),
    ("prune.refit=false", LATE, "train.when=after-pruning"),
    ("prune.recalibrate=false", LATE, "train.when=after-pruning"),
    ("prune.rows=64", LATE, "train.when=after-pruning"),
    *(
        (f"prune.{name}=9", ["prune.refit=false"], "prune.refit=False")
        for name in ("ridge", "images", "rows")
    ),
    ("prune.batch_size=9", ["prune.refit=false", "prune.recalibrate=false"], "prune.refit=False"),
    ("finetune.epochs=3", LATE, "train.when=after-pruning"),
    ("finetune.start=pruned", LATE, "train.when=after-pruning"),
    ("finetune.start=pruned", ["prune.refit=false"], "prune.refit=False"),
    *(
        (f"finetune.{k}={v}", ["finetune.epochs=0"], "finetune.epochs=0")
        for k, v in OF_TRAINING.items()
    ),
    ("train.milestones=[0.3]", [], "train.schedule=onecycle"),
    ("finetune.milestones=[0.3]", [], "finetune.schedule=onecycle"),
    ("compute.address=10.0.0.1", [], "compute.runner=threads"),
    ("compute.workers=3", ["compute.runner=serial"], "compute.runner=serial"),
    ("tracking.experiment=mine", ["tracking.uri=null"], "tracking.uri=None"),
]


def refusal(overrides):
    try:
        load_params(overrides=overrides)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("setting", "beside", "decider"), IDLE)
def test_setting_without_effect_is_refused(setting, beside, decider):
    field = setting.partition("=")[0]
    said = refusal([*beside, setting])
    assert f"{field} has no effect with {decider}." in said
    assert "Expected it to be left out, got " in said
    assert refusal([*beside, f"{field}={default_of(field)}"]) == ""


def default_of(field):
    """As YAML."""
    section, _, name = field.partition(".")
    value = getattr(getattr(Params(), section), name)
    return list(value) if isinstance(value, tuple) else "null" if value is None else value


COMPARED = [  # settings that count for a budget of the comparison alone
    ("choose.margin=0", "confidence:95"),
    ("choose.sure=drop", "confidence:95"),
    ("estimate.repeats=3", "confidence:95"),
    ("choose.param_weight=0", "ratio:0.5"),
]


@pytest.mark.parametrize(("setting", "budget"), COMPARED)
def test_setting_that_a_compared_budget_reads_is_taken(setting, budget):
    assert refusal([setting])
    assert refusal([setting, f"choose.compare=[{budget}]"]) == ""


@pytest.mark.parametrize(("setting", "beside", "decider"), IDLE)
def test_what_the_refusal_says_mends_it(setting, beside, decider):
    said = refusal([*beside, setting])
    mends = re.findall(r"[a-z]+\.[a-z_]+=\S+?(?=[,.]? |[,.]?$)", said.partition("got ")[2])
    field = setting.partition("=")[0]
    for mend in mends:
        rest = refusal([*beside, setting, mend])
        assert f"{field} has no effect with {decider}" not in rest


@pytest.mark.parametrize(
    "overrides",
    [
        ["choose.price=unit", "choose.param_weight=0"],
        ["choose.budget=ratio:0.5", "choose.param_weight=0"],
        ["choose.budget=nats:1", "choose.price=macs"],
        [*TESTED, "choose.margin=0", "choose.sure=drop", "estimate.repeats=3"],
        [*PERCEPTRONS, "estimate.repeats=3", "estimate.width=8", "estimate.resolution=1"],
        ["choose.estimator=my.module:own", "estimate.width=8", "estimate.ridge=1"],
        ["choose.estimator=infonce", "estimate.width=8", "estimate.lr=0.01", "estimate.rows=99"],
        ["data.name=my.module:load", "data.root=here", "data.download=true"],
        ["data.name=mnist", "data.root=here", "data.download=true"],
        ["train.optimizer=adamw", "train.momentum=0.5"],  # the decay of its first moment
        ["finetune.epochs=0", "finetune.start=pruned"],  # which network is handed on
        [*LATE, "train.lr=0.1", "data.augment=flip"],
        [*RIVAL, "choose.scope=layer", "choose.batch_size=8", "extract.rows=64"],
        ["prune.refit=false", "prune.batch_size=8"],  # recalibration reads it
    ],
)
def test_setting_with_an_effect_is_taken(overrides):
    assert refusal(overrides) == ""


def test_points_drop_what_their_own_method_does_not_have():
    experiment = Experiment(
        title="x",
        set={"choose.order": "mi", "choose.scope": "layer", "finetune.lr": 0.5},
        methods=("mipp", "l1"),
        seeds=(0,),
        start=("trained", "untrained"),
    )
    points = {(p.method, p.start): p.params for p in expand(experiment)}
    for (method, start), params in points.items():
        assert params.choose.order == ("mi" if method == "mipp" else "auto")
        assert params.choose.scope == ("layer" if method == "l1" else "global")
        assert params.finetune.lr == (0.5 if start == "trained" else Params().finetune.lr)


def test_points_refuse_what_no_method_would_need():
    experiment = Experiment(title="x", set={"data.crop_padding": 1}, seeds=(0,))
    with pytest.raises(ConfigError, match=r"data\.crop_padding has no effect"):
        expand(experiment)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "l1", "order": "mi"}, r"order has no effect with .*method"),
        ({"method": "l1", "estimator": "reconstruction"}, r"estimator has no effect"),
        ({"loss": lambda outputs, labels: outputs.sum()}, r"loss has no effect with method='mipp'"),
        ({"latency_batch": 3}, r"latency_batch has no effect with budget='macs:0\.5'"),
    ],
)
def test_arguments_without_effect_are_refused(arguments, match):
    with pytest.raises(ConfigError, match=match):
        mipp.prune(None, [], **arguments)  # refused before anything is looked at
