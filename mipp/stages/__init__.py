"""The eight stages of a run, in order: folders in, folders out.

`pipeline` has their table and runs them; `stage` says when one is up to date; each has a file of
its name, which imports no more than it needs: all that it imports is part of the stage's key.
`splits`, `networks` and `files` are what several read. `dvc` writes them all as a DVC pipeline.
"""

from mipp.stages.context import OnEpoch
from mipp.stages.finetune import epochs_after_pruning
from mipp.stages.pipeline import (
    STAGES,
    pending_pairs,
    pending_shards,
    run_all,
    run_one,
    run_pair,
    run_shard,
)
from mipp.stages.preflight import preflight
from mipp.stages.stage import Stage, run_stage, stage_params

__all__ = [
    "STAGES",
    "OnEpoch",
    "Stage",
    "epochs_after_pruning",
    "pending_pairs",
    "pending_shards",
    "preflight",
    "run_all",
    "run_one",
    "run_pair",
    "run_shard",
    "run_stage",
    "stage_params",
]
