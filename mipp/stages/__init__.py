"""The eight stages of a run, in order: folders in, folders out.

train, extract, estimate, choose, prune, finetune, evaluate, report
            a file each, which imports no more than it needs: all of it is part of the stage's key
pipeline    their table, and what runs some or all of them; `dvc` the same as a DVC pipeline
stage       when one is up to date, and what is run where it is not, in a `context`
preflight   all that can be refused before any of them runs
splits, networks, files, values   what several read
rows, shards, parts   activations and estimates, piece by piece, on whichever machine
trials, rounds   networks that are tried for a budget; pruning by steps
sharing     stage folders of another run
launch, launch_on_ray, rank, endings   one stage by several processes
plane       information planes of a run that is done
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
