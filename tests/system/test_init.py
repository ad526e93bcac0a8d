"""`mipp init` in a folder of somebody's, with mipp from its wheel: every door runs as it is."""

import json

import pytest
import yaml
from wheel_environment import Installed

from mipp.stages import STAGES

pytestmark = pytest.mark.slow
QUICK = ["--set=train.epochs=2", "--set=finetune.epochs=1", "--set=data.calibration=128"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that `mipp init` made; quick, for the work of each door is the same."""
    place = Installed(tmp_path_factory.mktemp("init"))
    place.call([place.bin / "mipp", "init", "mine"])
    place.folder = place.folder / "mine"
    every = place.call([place.bin / "mipp", "params", "--config", "params.yaml", *QUICK])
    (place.folder / "params.yaml").write_text(every)
    return place


def metrics(project, workdir):
    return json.loads((project.folder / workdir / "evaluate/metrics.json").read_text())


def test_its_test_passes(project):
    said = project.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "2 passed" in said


def test_all_doors_prune_its_network_alike(project):
    """The command, the flow, and DVC, which finds its own stages."""
    project.call([project.bin / "mipp", "run", "--config", "params.yaml", "--workdir", "plain"])
    words = ["flows.pipeline", "--config", "params.yaml", "--workdir", "flow", "--json"]
    [told] = [line for line in project.python("-m", *words).splitlines() if line.startswith("{")]
    project.python("-m", "dvc", "init", "--no-scm", "--quiet")
    said = project.python("-m", "dvc", "repro")
    stages = list(yaml.safe_load((project.folder / "dvc.yaml").read_text())["stages"])
    assert [s for s in stages if f"Running stage '{s}'" in said] == [*STAGES, "track"]
    plain, flow, dvc = (metrics(project, workdir) for workdir in ("plain", "flow", "work"))
    assert json.loads(told) == flow
    assert plain["macs"] <= 0.5 * plain["macs_dense"]
    for key in ("macs", "params", "accuracy_dense", "accuracy_finetuned"):
        assert plain[key] == flow[key] == dvc[key]
    same = project.call([project.bin / "mipp", "compare", "plain", "flow", "--json"])
    assert json.loads(same.splitlines()[0])["agreement"] == 1


def test_deployment_is_of_the_installed_flow(project):
    entry = yaml.safe_load((project.folder / "prefect.yaml").read_text())["deployments"][0]
    code = "from prefect.flows import load_flow_from_entrypoint as load\n"
    code += f"print(load({entry['entrypoint']!r}, use_placeholder_flow=False).name)"
    assert project.python("-c", code).splitlines()[0] == "pipeline"


def test_pruning_at_once_needs_no_parameters(project):
    words = ["prune", "--model", "my_network:net", "--data", "my_network:load", "--images=128"]
    with (project.folder / "my_network.py").open("a") as file:
        file.write("\n\ndef net() -> Net:\n    return Net(10, 1)\n")
    project.call([project.bin / "mipp", *words, "--out", "small.safetensors"])
    assert (project.folder / "small.safetensors").stat().st_size > 0
