"""`mipp prune`: a network at once, without a work directory; or stage `prune` of one."""

from __future__ import annotations

import argparse
import json

from mipp.commands import limits, one_network, stage
from mipp.commands.arguments import add_json, add_params, add_workdir
from mipp.errors import ConfigError, as_written

USAGE = """\
mipp prune CHECKPOINT --data NAME --out FILE [options]
       mipp prune --model PACKAGE.MODULE:ATTRIBUTE --data NAME --out FILE [options]
       mipp prune [--workdir DIR] [--config FILE] [--set SECTION.KEY=VALUE]"""
DESCRIPTION = """\
Prunes a trained network at once, as `mipp.prune` does from Python, and prints the report. Without
a network: runs stage `prune` of a work directory.
"""
EPILOG = """\
examples:
  mipp prune work/train/model.safetensors --data digits --budget macs:0.5 --out small.safetensors
  mipp prune work/train/model.safetensors --data image-folder --root photos --out small.safetensors
  mipp prune --model my_net:net --data my_net:loader --method l1 --repair none --out l1.safetensors
  mipp prune dense.safetensors --config params.yaml --out small.safetensors      its section `data`
  mipp prune --workdir w                           the stage, after `choose` and before `finetune`

Images are prepared as section `data` says: that of --config, with --set data.KEY=VALUE. Give what
the network was trained with, such as --set data.prepare=weights for published weights. In Python
mipp.load(FILE) reads the result, of a network of yours mipp.load(FILE, build=MyNet).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options, of both its ways."""
    parser.usage, parser.description, parser.epilog = USAGE, DESCRIPTION, EPILOG
    at_once = parser.add_argument_group("a network at once")
    one_network.add_network(at_once)
    limits.add_limits(at_once)
    add_json(parser, "the report, or the stage's folder and files,")
    add_params(parser, without="built-in; of the stage those of the last run")
    add_workdir(parser.add_argument_group("stage prune of a work directory"))


def run(options: argparse.Namespace) -> int:
    """Prune the network that is given, or run the stage where none is."""
    given = vars(options)
    named = options.checkpoint is not None or options.model is not None
    usual = one_network.STAGE_DEFAULTS if named else one_network.DEFAULTS
    idle = [name for name, value in usual.items() if given[name] != value]
    if idle:
        beside = "a network" if named else "stage prune"
        instead = "leave it out" if named else "give a CHECKPOINT or --model, or use --set"
        raise ConfigError(
            f"--{idle[0].replace('_', '-')} has no effect on {beside}.\nExpected it to be left "
            f"out, got {given[idle[0]]!r}; {instead}."
        )
    if not named:
        return stage.run(options)
    with as_written(one_network.WRITTEN):
        pruned = one_network.prune_network(options)
    print(json.dumps(pruned.report.to_dict()) if options.json else pruned.report)
    return 0
