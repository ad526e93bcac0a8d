"""Training of the benchmarks' own networks: what is kept, and that it can be pruned."""

import pytest
import torch
from safetensors import safe_open

import mipp
from benchmarks.accuracy import checkpoints
from benchmarks.accuracy.checkpoints import RECIPES, keep, trained
from benchmarks.accuracy.workloads import WORKLOADS
from mipp.config import DataConfig, TrainConfig
from mipp.data import load_data
from mipp.metrics import accuracy, count_params
from mipp.models import ModelSpec, build_model, load_weights

OWN = ("cct", "mobilenet")
CPU = torch.device("cpu")


def built(name):
    return build_model(ModelSpec(WORKLOADS[name].model, 10, 3, 32), seed=0).eval()


@pytest.mark.parametrize(("name", "params"), [("cct", 306_634), ("mobilenet", 259_242)])
def test_a_network_fits_in_three_megabytes_and_has_as_many_parameters_as_it_says(name, params):
    assert count_params(built(name)) == params < 1.5e6


@pytest.mark.parametrize("name", OWN)
def test_every_layer_but_the_classifier_can_lose_outputs(name):
    model = built(name)
    answer = mipp.inspect(model, torch.zeros(1, 3, 32, 32))
    classifier = [name for name, _ in model.named_modules()][-1]
    assert list(answer.no_fewer_outputs) == [classifier]


def test_every_recipe_is_of_a_workload():
    assert {recipe.workload for recipe in RECIPES.values()} <= WORKLOADS.keys()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    splits = load_data(DataConfig(calibration=1), seed=0, size=28)
    spec = ModelSpec("lenet5", 10, 1, 28)
    config = TrainConfig(epochs=1, batch_size=64)
    model = trained(spec, config, splits.train.first(256), 0, folder / "state/lenet5.resume")
    kept = keep(folder / "lenet5.safetensors", model, spec, splits.test, {"command": "as typed"})
    return folder / "lenet5.safetensors", spec, splits.test, kept


def test_the_accuracy_is_that_of_the_weights_as_they_are_kept(finished):
    file, spec, test, kept = finished
    model = build_model(spec, seed=5)
    load_weights(model, file)
    assert kept["accuracy"] == round(100 * accuracy(model, test, batch_size=500, device=CPU), 2)


def test_the_file_is_of_halves_and_says_how_it_was_made(finished):
    file, *_, kept = finished
    with safe_open(file, "pt") as content:
        assert content.get_tensor("conv1.weight").dtype == torch.float16
        said = content.metadata()
    assert (said["accuracy"], said["command"]) == (str(kept["accuracy"]), "as typed")


def test_with_write_a_shortened_training_is_refused(capsys):
    with pytest.raises(SystemExit):
        checkpoints.arguments(["--network", "cct", "--epochs", "1", "--write"])
    assert "--write keeps results of --epochs None, got 1" in capsys.readouterr().err
