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
            ("tests/faults/test_every_write.py",),
        ),
        Promise(
            "full disks",
            "On a disk that fills up, or is mounted read-only, a run says so, and goes on to the "
            "same result once it can write (skipped where namespaces have no mounts of their own).",
            ("tests/faults/test_full_disk.py",),
        ),
        Promise(
            "dropped connections",
            "A connection to the address of a work directory that drops at any call, or is cut on "
            "its way to an S3 server, for once or for good, changes no result of the next run, on "
            "another machine too.",
            ("tests/faults/test_dropped_connections.py",),
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
            "long sweeps",
            "A flow of 200 points that is killed at random moments ends under a memory limit; its "
            "processes hold as many threads and handles in the end as 20 points after their start, "
            "and at most 16 MiB more (1 and 10 measured over 90 points); table, folders and MLflow "
            "agree to the row.",
            ("tests/faults/test_long_sweep.py",),
        ),
        Promise(
            "side by side",
            "Of a flow and a command in one work directory the second is told whose the first is; "
            "sweeps over one root share its points; what each writes is that of one alone.",
            ("tests/faults/test_side_by_side.py",),
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
            "four writers",
            "Of four processes that log epochs to one SQLite store at once none loses a row.",
            ("tests/flows/test_four_writers.py",),
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
            "yaml",
            "YAML whose aliases stand for a billion values, that holds itself, or nests without "
            "end is refused at once.",
            ("tests/test_config.py::test_yaml_that_is_larger_than_its_file_is_refused",),
        ),
        Promise(
            "few rows",
            "The closed form of two or three rows is within a hundredth of itself, or is refused.",
            (
                "tests/information/gaussian/test_gaussian.py::"
                "test_small_ridge_is_accurate_or_refused",
            ),
        ),
        Promise(
            "hostile calls",
            "mipp.prune with hostile networks, batches and arguments works or says why not.",
            ("tests/pruning/test_hostile.py",),
        ),
    ),
)

TRUST = Section(
    "Whom mipp trusts",
    """**Trusted**: the code of mipp and of what it imports; the operator's parameters, those in \
`params.yaml` of a work directory too (single stages and `mipp budget` take them from there: give \
`--config` where the directory is somebody else's); modules that these name; the addresses of \
MLflow, Prefect, Ray and buckets, and whoever may write there.

**Not trusted**: checkpoints and weight files, images and their tables, activation stores, \
manifests and everything else in a work directory. No pickle in them runs code, no name in them \
leads out of its folder, and what they say of sizes is held against what they hold, or against the \
memory, before room is made.

**What is left**: a checkpoint may name the function that makes its network, which is imported and \
called as an `import` of yours would be, from where Python looks for modules and never from the \
checkpoint's folder (`build=` names it instead; the standard library is refused). Digests in a \
manifest tell damage, not forgery: who can write to a work directory can make up its results. A \
network or a table may be as large as the memory. Class folders and images may be links, as data \
sets are kept; only names in annotations may not lead out by one.""",
    (
        Promise(
            "names in files",
            "A name in a manifest, a store or annotations that is absolute, climbs by '..' or "
            "leads out by a link is refused; a folder does not say itself what it mirrors.",
            (
                "tests/test_manifest.py",
                "tests/activations/test_store.py::test_attributes_of_no_store_are_refused",
                "tests/data/test_hostile_folders.py",
            ),
        ),
        Promise(
            "no code of files",
            "No pickle in weights, checkpoints, unfinished trainings or stores runs, no image runs "
            "a program, and a checkpoint names no code of the standard library.",
            (
                "tests/test_hostile_checkpoints.py",
                "tests/models/test_weights.py::test_pickled_module_is_never_loaded",
                "tests/activations/test_store.py::test_array_of_version_2_runs_no_pickle",
                "tests/data/test_hostile_folders.py::test_image_that_is_none_is_refused",
            ),
        ),
        Promise(
            "sizes in files",
            "Shapes, rows, classes and pixels that a file declares but does not hold, or the "
            "memory does not, are refused before room is made for them.",
            (
                "tests/data/test_hostile_tables.py",
                "tests/activations/test_store.py::"
                "test_array_of_another_kind_is_refused_before_room_is_made",
                "tests/models/test_weights.py::test_archive_that_unpacks_to_more_than_it_is_is_refused",
                "tests/models/test_weights.py::test_shape_that_a_file_does_not_hold_is_refused",
            ),
        ),
        Promise(
            "values in files",
            "Manifests, times, signs of life, weights, unfinished stages and trainings, selections "
            "and results of another type are refused, or count as none and are made anew.",
            (
                "tests/test_manifest.py::test_manifest_of_another_type_counts_as_none",
                "tests/models/test_weights.py::test_file_of_other_tensors_is_refused",
                "tests/models/test_weights.py::test_weights_that_a_cast_would_change_are_refused",
                "tests/test_training.py::test_damaged_checkpoint_is_refused_by_name",
                "tests/test_occupied.py::test_what_a_dead_owner_left_is_taken_over",
                "tests/test_shards.py::test_damaged_part_is_told_of",
                "tests/experiments/test_sweep.py::test_damaged_result_of_a_point_is_refused_by_name",
                "tests/report/test_page.py::test_history_of_another_kind_is_refused",
            ),
        ),
        Promise(
            "Ctrl-C",
            "Ctrl-C ends a command with one line and exit code 130; the next goes on from there.",
            ("tests/test_exit_codes.py",),
        ),
        Promise(
            "closed to others",
            "What a command makes, others than its user and their group cannot read.",
            ("tests/test_exit_codes.py::test_what_a_run_makes_is_closed_to_others",),
        ),
        Promise(
            "no telemetry",
            "A run opens no connection, a flow none but to loopback (watched in a network "
            "namespace without a way out); servers listen on loopback alone.",
            ("tests/system/test_network.py",),
        ),
        Promise(
            "markup in names",
            "Names and titles with markup in them are shown as text in both reports.",
            (
                "tests/report/test_page.py::"
                "test_names_are_escaped_in_the_page_and_inert_in_markdown",
            ),
        ),
    ),
)

ONE_BY_ONE = "tests/faults/test_same_bytes.py::test_"
SAME = Section(
    "Same bytes",
    "The same seed, parameters and versions, on the same kind of processor, give the same bytes of "
    "selection, node table and weights. What changes some of them is named with by how much.",
    (
        Promise(
            "runs",
            "Another run, serial or on any number of workers, with other batch sizes in `prune` "
            "and `evaluate`: the same bytes of all.",
            (f"{ONE_BY_ONE}bytes_are_those_of_another_run",),
        ),
        Promise(
            "batches of extraction",
            "`extract.batch_size`: the same bytes of selection and weights; nats of the node table "
            "within 1e-5 (9e-7 measured).",
            (f"{ONE_BY_ONE}images_per_pass_of_extraction_change_the_last_digits_of_nats_alone",),
        ),
        Promise(
            "batches of the loader",
            "The loader that `mipp.prune` reads, whatever its batches: the same bits of selection "
            "and refitted weights.",
            (f"{ONE_BY_ONE}batches_of_the_loader_change_no_bit_of_a_refit",),
        ),
        Promise(
            "batches and recalibration",
            '`repair="recalibrate"` averages statistics over the batches that it is given: they '
            "are within a tenth of one another (0.7 % for batches of 16 beside 64 and 4.9 % for "
            "batches of 7, ResNet-20 with random weights).",
            (
                f"{ONE_BY_ONE}batches_of_the_loader_change_recalibrated_statistics_by_a_tenth_at_most",
            ),
        ),
        Promise(
            "threads",
            "One and two threads of torch: the same bytes of the selection; weights within a "
            "thousandth of their norm (2e-8 after training, 7e-5 after the refit, measured), as "
            "products are summed in another order.",
            (f"{ONE_BY_ONE}threads_change_no_selection_and_weights_by_less_than_a_thousandth",),
        ),
        Promise(
            "threads of a strict MKL",
            "The same with `MKL_CBWR=AUTO,STRICT` in the environment: the same bytes of selection "
            "and weights.",
            (f"{ONE_BY_ONE}weights_on_any_threads_are_the_same_where_mkl_is_told_to",),
        ),
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

SECTIONS = (FAULTS, CHANGES, INPUT, TRUST, SAME)
PROMISES = tuple(promise for section in SECTIONS for promise in section.promises)
