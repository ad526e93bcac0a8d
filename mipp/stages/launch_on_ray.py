"""A stage that several processes of a Ray cluster run between them.

They are actors that are told their rank and call what a process of this machine does, not workers
of Ray Train: that joins them by itself, under a time limit that a stage which waits for rank 0
cannot have, keeps a folder of results beside the work directory, hands the epochs to its controller
and not to the caller, and needs pandas. They are placed together, or not at all, here as there.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mipp.config import ComputeConfig
from mipp.device import threads_each
from mipp.errors import DeviceError
from mipp.process.ranks import loopback, meeting_place
from mipp.stages.context import Context
from mipp.stages.endings import GRACE, Ending, raise_first
from mipp.training.history import EpochRecord

logger = logging.getLogger(__name__)
LEAST = 0.001  # of a node's own resource: enough to be on that node


def drives_cluster() -> bool:
    """Whether this process has a Ray cluster at hand, and is not itself a worker of it."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.SCRIPT_MODE)


class _Process:
    """What Ray runs: one of the processes."""

    def pid(self) -> int:
        return os.getpid()

    def run(self, job: Mapping[str, Any], epochs: Any) -> dict[str, str]:
        # by name, as a process of this machine is started: it imports all stages
        outcome = import_module("mipp.stages.rank").outcome
        failure: dict[str, str] = outcome(job, epochs.put)
        return failure


def launch_on_ray(stage: str, job: Mapping[str, Any], context: Context) -> None:
    """Run a stage's body by `compute.devices` actors; rank 0 fills its folder.

    Each holds `compute.cpus_per_task` cores and `compute.gpus_per_task` whole GPUs. A folder has to
    be seen by all machines; where the work directory is a URL, they are on this one.

    Raises
    ------
    DeviceError : the cluster is too small for them.
    LostRankError, MippError, RuntimeError : as `mipp.stages.launch.launch`.
    """
    import ray
    from ray.util.queue import Queue

    compute = context.params.compute
    epochs = Queue(actor_options={"num_cpus": 0})
    try:
        with _gang(compute, "://" in context.workdir.address) as actors:
            pids = ray.get([actor.pid.remote() for actor in actors])
            runs = [actor.run.remote(job, epochs) for actor in actors]

            def tell() -> None:
                while not epochs.empty():
                    if context.on_epoch is not None:
                        context.on_epoch(stage, EpochRecord(**epochs.get()))

            endings = _watched(runs, pids, tell)
    finally:
        epochs.shutdown()
    raise_first(endings, stage)


@contextmanager
def _gang(compute: ComputeConfig, beside: bool) -> Iterator[list[Any]]:
    """The actors, all or none; none of them is left after the block.

    Parameters
    ----------
    beside : all of them on this machine.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    size, address = compute.devices, ray.util.get_node_ip_address()
    held = {"CPU": compute.cpus_per_task, "GPU": float(math.ceil(compute.gpus_per_task))}
    held = {name: amount for name, amount in held.items() if amount}
    require_room(held, size, ray.cluster_resources())
    group = placement_group([held | ({f"node:{address}": LEAST} if beside else {})] * size)
    actors: list[Any] = []
    try:
        logger.info("waiting for %d processes of the Ray cluster, each with %s", size, held)
        ray.get(group.ready())
        nodes = ray.util.placement_group_table(group)["bundles_to_node_id"]
        place = meeting_place(host=address)
        for rank in range(size):
            known = {
                "RANK": rank,
                "WORLD_SIZE": size,
                "LOCAL_RANK": 0,  # Ray shows each its own GPU alone
                "LOCAL_WORLD_SIZE": [*nodes.values()].count(nodes[rank]),
                "MIPP_RANKS_HOST": address,
                "MIPP_RANKS_PORT": place.port,  # type: ignore[attr-defined]
                "OMP_NUM_THREADS": threads_each(size),
                **(loopback() if len({*nodes.values()}) == 1 else {}),
            }
            options = {
                "num_cpus": held.get("CPU", 0),
                "num_gpus": held.get("GPU", 0),
                "scheduling_strategy": PlacementGroupSchedulingStrategy(group, rank),
                "runtime_env": {"env_vars": {name: str(value) for name, value in known.items()}},
            }
            actors.append(ray.remote(_Process).options(**options).remote())
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def require_room(held: Mapping[str, float], size: int, there: Mapping[str, float]) -> None:
    """Refuse so many processes, of which each holds this, where the whole cluster has less.

    Raises
    ------
    DeviceError : says of what.
    """
    for name, amount in held.items():
        if amount * size > there.get(name, 0):
            raise DeviceError(
                f"compute.devices={size} cannot all be had of this Ray cluster.\nExpected "
                f"{amount * size:g} {name}s, {amount:g} for each (compute.{name.lower()}s_per_task)"
                f", got {there.get(name, 0):g}; lower one of them, or add machines."
            )


def _watched(runs: Sequence[Any], pids: Sequence[int], tell: Callable[[], None]) -> list[Ending]:
    """Hand epochs on until all have ended, or one has failed and the others have had their time."""
    import ray

    rank_of = {run: rank for rank, run in enumerate(runs)}
    waiting, endings, until = list(runs), [], float("inf")
    while waiting and time.monotonic() < until:
        done, waiting = ray.wait(waiting, timeout=0.5)
        tell()
        for run in done:
            how, said = "", {}
            try:
                if said := ray.get(run):
                    how = "failed"
            except ray.exceptions.RayError as error:
                how = f"died ({str(error).splitlines()[0].rstrip('.')})"
            endings.append(Ending(rank_of[run], pids[rank_of[run]], how, said))
            if how:
                until = min(until, time.monotonic() + GRACE)
    tell()
    return endings
