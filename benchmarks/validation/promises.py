"""What holds under faults, in hostile hands and between runs: each promise with its tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """A statement, and the tests that fail where it does not hold."""

    name: str
    says: str
    tests: tuple[str, ...]  # as pytest takes them: files, folders or FILE::TEST


@dataclass(frozen=True)
class Section:
    """A part of the page: its words, then its promises."""

    title: str
    words: str
    promises: tuple[Promise, ...]


FAULTS = Section(
    "Faults",
    "A stage's folder is complete or absent, whatever ends its writer, and the next run goes on "
    "from there to the result of an undisturbed one.",
    (
        Promise(
            "whole files",
            "A file or folder appears whole; what killed processes left is removed.",
            ("tests/test_whole_files.py",),
        ),
        Promise(
            "every write",
            "A fault at any write of any stage (an error, a full or read-only disk, a kill, a kill "
            "that loses half of a file) leaves the next run the bytes of an undisturbed one.",
            ("tests/faults/test_writes.py",),
        ),
        Promise(
            "killed runs",
            "A run killed in any stage goes on where it stopped; training goes on at its epoch.",
            (
                "tests/test_run.py::test_killed_run_goes_on_where_it_stopped",
                "tests/test_training.py::test_killed_run_ends_as_an_undisturbed_one",
                "tests/test_training.py::test_run_killed_between_checkpoints_ends_as_an_undisturbed_one",
            ),
        ),
        Promise(
            "killed flows",
            "A flow killed (-9) inside every stage ends with the result, and the one MLflow run, "
            "of an undisturbed one.",
            ("tests/system/test_killed_flows.py",),
        ),
        Promise(
            "killed sweeps",
            "A sweep that is killed again and again ends with the table of an undisturbed one.",
            ("tests/experiments/test_kills.py",),
        ),
        Promise(
            "one at a time",
            "Of two runs in a work directory the second is told whose the first is; a dead owner's "
            "lock is taken over.",
            ("tests/test_occupied.py",),
        ),
        Promise(
            "writers of one store",
            "Four flows log to one MLflow store at once, and no number, epoch or file is lost.",
            ("tests/system/test_concurrent_tracking.py",),
        ),
        Promise(
            "buckets",
            "A run in a bucket ends as in a folder; an upload that is killed counts for nothing.",
            ("tests/test_s3.py",),
        ),
    ),
)

CHANGES = Section(
    "Changed and damaged files",
    "What a stage was made from is its parameters, its code, the versions that decide numbers, and "
    "the content of its inputs.",
    (
        Promise(
            "images replaced in place",
            "Stages that read images run anew when these were replaced, at the same size too.",
            ("tests/test_changed_data.py", "tests/data/test_content.py"),
        ),
        Promise(
            "damaged files",
            "Any file of a finished run that is cut short, zeroed, flipped, emptied, replaced or "
            "removed is made anew as it was, or refused in words.",
            ("tests/faults/test_damage.py",),
        ),
        Promise(
            "damaged chunks",
            "Damage to any chunk of an activation store is seen, and the store is written anew.",
            (
                "tests/activations/test_store.py::test_damage_to_any_chunk_is_seen",
                "tests/test_run.py::test_a_damaged_store_is_written_anew",
            ),
        ),
    ),
)

INPUT = Section(
    "Hostile input",
    "Bad input ends in an error that says what, where, what was expected, what came and how to "
    "mend it, before any compute where it can be known.",
    (
        Promise(
            "bad parameters",
            "Parameters, data and weights that do not fit are refused before the first stage.",
            ("tests/test_bad_input.py",),
        ),
        Promise(
            "generated input",
            "Generated parameters, command lines, stores, checkpoints, selections, rows and calls "
            "of mipp.prune end rightly or in words, none in a traceback or a hang.",
            ("tests/faults/test_fuzz.py",),
        ),
        Promise(
            "hostile calls",
            "mipp.prune with hostile networks, batches and arguments works or says why not.",
            ("tests/pruning/test_hostile.py",),
        ),
    ),
)

SAME = Section(
    "Same bytes",
    "The same seed, parameters and versions, on the same kind of processor, give the same bytes of "
    "selection, node table and weights.",
    (
        Promise(
            "shards",
            "Any number of shards gives the store of one pass.",
            ("tests/test_shards.py",),
        ),
        Promise(
            "two runs",
            "Two runs write equal manifests, and two saves of a network equal files.",
            (
                "tests/test_workdir.py::test_two_runs_give_equal_manifests",
                "tests/test_checkpoint.py::test_two_saves_give_equal_bytes",
            ),
        ),
        Promise(
            "Ray",
            "A cluster of two Ray nodes decides what threads decide (skipped without Ray).",
            ("tests/flows/test_ray.py", "tests/flows/test_ray_fan_out.py"),
        ),
    ),
)

SECTIONS = (FAULTS, CHANGES, INPUT, SAME)
PROMISES = tuple(promise for section in SECTIONS for promise in section.promises)
