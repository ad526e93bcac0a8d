"""Settings check themselves; defaults and bounds are the configuration's too."""

import dataclasses
import math

import pytest

import mipp
from mipp.config import ChooseConfig, EstimateConfig, Params, PruneConfig, load_params
from mipp.errors import InputError, as_written, option
from mipp.settings import Criterion, Gaussian, Limits, Mipp, Reconstruction, Refit
from mipp.stages.values import limits_of, method_of

SECTIONS = [
    (Gaussian, EstimateConfig, "estimate"),
    (Reconstruction, EstimateConfig, "estimate"),
    (Mipp, ChooseConfig, "choose"),
    (Limits, ChooseConfig, "choose"),
    (Refit, PruneConfig, "prune"),
]
SHARED = [
    (kind, section, name, field.name)
    for kind, section, name in SECTIONS
    for field in dataclasses.fields(kind)
    if field.name in section.model_fields and field.name not in ("estimator", "rows")
]
WRONG = {int: (-1, 1.5, True), float: (-1.0, math.nan, math.inf, "much"), str: ("nonsense",)}


@pytest.mark.parametrize(("kind", "section", "name", "field"), SHARED)
def test_configuration_takes_over_defaults(kind, section, name, field):
    if field in ("limits", "ignore", "keep_outputs", "keep_inputs"):
        assert not getattr(kind(), field)
        assert not getattr(section(), field)
    else:
        assert getattr(kind(), field) == getattr(section(), field)


@pytest.mark.parametrize(("kind", "section", "name", "field"), SHARED)
def test_values_out_of_bounds_are_refused_by_their_own_name_and_by_that_of_the_section(
    kind, section, name, field
):
    value = getattr(kind(), field)
    if not isinstance(value, (int, float, str)):
        return
    for wrong in WRONG[type(value)]:
        with pytest.raises(InputError, match=rf"^(\w+\.)?{field}\b.*{wrong}"):
            kind(**{field: wrong})
    with pytest.raises(InputError, match=rf"{name}\.{field}"):
        load_params(overrides=[f"{name}.{field}={WRONG[type(value)][0]}"])


@pytest.mark.parametrize(
    "fields",
    [{"ignore": "conv1"}, {"keep_inputs": (1,)}, {"limits": {"a": 2.0}}, {"limits": {"a": "b"}}],
)
def test_limits_refuse_what_no_configuration_would_take(fields):
    (name,) = fields
    with pytest.raises(InputError, match=rf"^{name}"):
        Limits(**fields)


def test_sections_become_the_values_of_the_core():
    overrides = ["choose.order=mi", "estimate.ridge=0.5", "extract.rows=99", "choose.round_to=8"]
    params = load_params(overrides=overrides)
    assert method_of(params) == Mipp(Gaussian(ridge=0.5), order="mi", rows=99)
    assert limits_of(params.choose) == Limits(round_to=8)
    rival = load_params(overrides=["choose.method=l1", "choose.scope=layer"])
    assert method_of(rival) == Criterion("l1", scope="layer")
    paper = load_params(overrides=["choose.estimator=reconstruction", "estimate.width=64"])
    assert method_of(paper).estimator == Reconstruction(width=64)
    assert method_of(Params()) == Mipp()


# One refusal, two doors


@pytest.mark.parametrize(
    ("arguments", "plain", "written"),
    [
        ({"budget": "macs:2"}, r"^budget='macs:2' is out", r"choose\.budget='macs:2' is out"),
        ({"budget": "mac:1"}, r"^budget='mac:1' has no", r"choose\.budget='mac:1' has no"),
        ({"min_channels": -1}, r"^min_channels: expected", r"choose\.min_channels: expected"),
        ({"round_to": 0}, r"^round_to: expected", r"choose\.round_to: expected"),
        ({"order": "im"}, r"^order 'im' is unknown", r"choose\.order: expected"),
    ],
)
def test_each_door_names_the_option_as_its_callers_write_it(arguments, plain, written):
    with pytest.raises(InputError, match=plain) as error:
        mipp.prune(None, [], **arguments)
    assert "choose" not in str(error.value).partition("choose from")[0]
    overrides = [f"choose.{name}={value}" for name, value in arguments.items()]
    with pytest.raises(InputError, match=written):
        load_params(overrides=overrides)


def test_options_have_their_own_names_where_no_door_was_passed():
    with as_written({"ridge": "estimate.ridge"}):
        with as_written({}):
            assert option("ridge") == "ridge"
        assert option("ridge") == "estimate.ridge"
    assert option("ridge") == "ridge"
