"""The best network within a budget, in MLflow's model registry."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mipp.budget import Budget
from mipp.config import Params
from mipp.errors import ConfigError
from tasks.tracking.client import client_of
from tasks.tracking.program import find_program

ALIAS = "best"
QUALITY = "accuracy_finetuned"
MEASURES = {
    "macs": ("macs", "macs_dense"),
    "params": ("params", "params_dense"),
    "latency": ("latency_ms", "latency_dense_ms"),
}


def register_best(params: Params, name: str, budget: Budget) -> ModelVersion:
    """Register the most accurate finished run of this data and model that keeps to a budget.

    Parameters
    ----------
    params : says where the runs are, and of which data and model they must be.
    name : of the registered model; its version gets the alias `best`.
    budget : `ratio:R`, `macs:S`, `params:S` or `latency:S`.

    Raises
    ------
    ConfigError : nothing is tracked, the budget is none of these, or no run keeps to it.
    """
    if params.tracking.uri is None:
        raise ConfigError(
            "tracking.uri is null: there is no registry.\nExpected the address that the runs were "
            "logged to, got null; give it, such as --set tracking.uri=sqlite:///mlflow.db."
        )
    client = client_of(params.tracking.uri)
    inside = [run for run in _finished(client, params) if within(run, budget)]
    best = max(inside, key=lambda run: float(run.data.metrics[QUALITY]), default=None)
    model = find_program(client, best.info.run_id) if best else None
    if best is None or model is None:
        raise ConfigError(
            f"budget {budget}: experiment {params.tracking.experiment!r} of {params.tracking.uri} "
            f"has nothing to register.\nExpected a finished run of {params.model.name} on "
            f"{params.data.name} that keeps to it and has a logged model, got "
            f"{len(inside)} run(s) within the budget; run the pipeline with this budget and "
            "evaluate.export=[torch]."
        )
    return _register(client, name, model.model_id, best.info.run_id)


def within(run: Run, budget: Budget) -> bool:
    """Whether a run's network keeps to a budget.

    Raises
    ------
    ConfigError : the budget bounds no number that runs report.
    """
    found = run.data.metrics
    if budget.kind == "ratio":
        return bool(found["units_removed"] >= budget.value - 0.005)  # widths are whole numbers
    if budget.kind not in MEASURES:
        raise ConfigError(
            f"budget kind {budget.kind!r} bounds no number that a run reports.\n"
            f"Expected one of ratio, {', '.join(MEASURES)}, got {budget.kind!r}; say how large "
            "the network may be, such as macs:0.5."
        )
    part, whole = MEASURES[budget.kind]
    return bool(found[part] <= budget.value * found[whole])


def _finished(client: MlflowClient, params: Params) -> list[Run]:
    """Runs to choose from."""
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    wanted = (
        "attributes.status = 'FINISHED' and metrics.collapsed = 0 and "
        f"tags.model = '{params.model.name}' and tags.data = '{params.data.name}'"
    )
    return list(client.search_runs([experiment.experiment_id], wanted)) if experiment else []


def _register(client: MlflowClient, name: str, model_id: str, run_id: str) -> ModelVersion:
    """The version that holds a logged model, made where there is none, with the alias."""
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    known = [version for version in versions if version.run_id == run_id]
    version = (
        known[0]
        if known
        else client.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, model_id=model_id
        )
    )
    client.set_registered_model_alias(name, ALIAS, version.version)
    return version
