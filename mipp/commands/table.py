"""The commands by task: their one line of help, and the module that does each."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast


class CommandModule(Protocol):
    """What the module of a command has."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


@dataclass(frozen=True)
class Command:
    """One command of `mipp`: its line of help, and its module, imported when it is asked for."""

    help: str
    module: str

    def load(self) -> CommandModule:
        """Its module."""
        return cast(CommandModule, importlib.import_module(f"mipp.commands.{self.module}"))


TASKS: Mapping[str, Mapping[str, Command]] = {
    "prune a network": {
        "run": Command("all stages: data to pruned, fine-tuned network and report", "run"),
        "prune": Command(
            "a checkpoint or network of yours at once, without a work directory; or stage `prune`",
            "prune",
        ),
        "sweep": Command(
            "all points of an experiment: methods x budgets x seeds x trained or untrained", "sweep"
        ),
    },
    "look, before and after": {
        "inspect": Command(
            "what of a network can be pruned, how far, and what to do about the rest", "inspect"
        ),
        "budget": Command("what several budgets would cost, before any cut", "budget"),
        "plane": Command(
            "what layers tell of inputs and labels, while trained and after pruning", "plane"
        ),
        "compare": Command(
            "what differs between two runs, and the units that both keep", "compare"
        ),
    },
    "one stage of a run": {
        "train": Command("train the dense network, unless trained weights are given", "stage"),
        "extract": Command("activation rows of every layer pair", "stage"),
        "estimate": Command("information between the layers of every pair", "stage"),
        "choose": Command("which units stay, and a table of every unit that says why", "stage"),
        "finetune": Command("train the pruned network", "stage"),
        "evaluate": Command("accuracy, size and speed of every network", "stage"),
        "report": Command("the page, with its figures and tables", "stage"),
    },
    "set up": {
        "init": Command(
            "a project around a network and images of yours, which runs as it is", "init"
        ),
        "doctor": Command("whether this machine and installation have what a run needs", "doctor"),
        "completion": Command("print what completes `mipp` in bash, zsh or fish", "completion"),
        "params": Command("print every parameter, for a file of them", "params"),
        "dvc": Command("print dvc.yaml: the stages as a DVC pipeline", "dvc"),
    },
}
COMMANDS: Mapping[str, Command] = {
    name: command for commands in TASKS.values() for name, command in commands.items()
}
