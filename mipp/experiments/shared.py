"""Stages that several points share: run once, wherever they are needed first, and linked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp.config import Params
from mipp.disk.manifest import fingerprint
from mipp.disk.storage import Workdir
from mipp.disk.whole_files import locked
from mipp.disk.workdir import MANIFEST, versions
from mipp.errors import DamagedStoreError
from mipp.needed_stages import is_needed
from mipp.stages import STAGES, run_stage, stage_params
from mipp.stages.sharing import link_stages
from mipp.stages.stage import stage_code

SHARED = ("train", "extract", "estimate", "choose")


def run_shared(root: Path, params: Params, stages: Sequence[str] = SHARED) -> dict[str, Path]:
    """Folder of each shared stage that is needed, run where it was not there yet.

    Every stage has a work directory of its own, named after all that it depends on, in which
    the stages before it are links. Of several processes one runs a stage and the others wait.
    """
    folders: dict[str, Path] = {}
    made_from: list[object] = [versions()]
    for name in (name for name in stages if is_needed(name, params.choose.method)):
        stage = STAGES[name]
        made_from.append([name, stage_params(stage, params), stage_code(stage, params)])
        workdir = root / "shared" / f"{name}-{fingerprint(made_from)[:16]}"
        with locked(lock_of(root, workdir.name)):
            link_stages(workdir, folders)
            try:
                run_stage(stage, Workdir(workdir), params)
            except DamagedStoreError:  # the next sweep writes it anew
                (folders["extract"] / MANIFEST).unlink()
                raise
        folders[name] = workdir / name
    return folders


def lock_of(root: Path, name: str) -> Path:
    """The file that a process holds while it makes something of this name."""
    return root / ".locks" / name
