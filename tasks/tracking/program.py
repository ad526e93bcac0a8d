"""The exported program of a run as an MLflow *logged model*, which loads without mipp."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.environment import _PythonEnv

NAME = "pruned"
DIGEST = "program"  # tag of a logged model: SHA-256 of the file


def find_program(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The logged model of a run, None where it has none."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    return found[0] if found else None


def log_program(client: MlflowClient, run_id: str, program: Path, digest: str) -> None:
    """Log a program that `torch.export` wrote, unless the run has this very one.

    `mlflow.pyfunc.load_model("models:/<id>")`, and so `mlflow models serve`, runs it on arrays.

    Parameters
    ----------
    digest : SHA-256 of the file, as its stage's manifest has it.
    """
    known = find_program(client, run_id)
    if known is not None and known.tags.get(DIGEST) == digest:
        return
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, NAME, run_id, tags={DIGEST: digest})
    with tempfile.TemporaryDirectory() as folder:
        write_model(program, Path(folder), model.model_id, run_id)
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if known is not None:
        client.delete_logged_model(known.model_id)


def write_model(program: Path, folder: Path, model_id: str, run_id: str) -> None:
    """Write the folder of MLflow's flavour `pytorch` around a program.

    `mlflow.pytorch.save_model` would export the program a second time; this keeps the file that
    stage `evaluate` compared with the network.
    """
    version = torch.__version__.partition("+")[0]
    (folder / "data").mkdir()
    shutil.copyfile(program, folder / "data/model.pt2")
    (folder / "requirements.txt").write_text(f"mlflow\nnumpy\npandas\ntorch=={version}\n")
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))
    model = Model(run_id=run_id, model_id=model_id, signature=signature_of(program))
    model.add_flavor("pytorch", model_data="data", pytorch_version=version, code=None)
    model.add_flavor(  # what mlflow.pyfunc.add_to_model does, without the seconds of its import
        "python_function",
        loader_module="mlflow.pytorch",
        python_version=platform.python_version(),
        data="data",
        env={"virtualenv": "python_env.yaml"},
        config={"device": None},
    )
    model.save(str(folder / "MLmodel"))


def signature_of(program: Path) -> ModelSignature:
    """Types and shapes of a program's input and output; -1 stands for any batch size."""
    exported = torch.export.load(program)
    name = exported.graph_signature.user_inputs[0]
    node = next(node for node in exported.graph.nodes if node.name == name)
    shape = node.meta["val"].shape
    fixed = isinstance(shape[0], int)
    inputs = torch.zeros(shape[0] if fixed else 2, *shape[1:])
    with torch.no_grad():
        outputs = exported.module()(inputs)
    return ModelSignature(_schema(inputs, fixed), _schema(outputs, fixed))


def _schema(tensor: torch.Tensor, fixed: bool) -> Schema:
    array = tensor.numpy()
    return Schema([TensorSpec(array.dtype, array.shape if fixed else (-1, *array.shape[1:]))])
