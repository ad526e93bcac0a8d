"""Damage to any file of a finished run: it is made anew as it was, or refused in words."""

import random
import shutil

import pytest
from conftest import NAMES

SAMPLE = 6  # of files and damages, in the default tests


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "one bit": lambda content: flipped(content) if content else b"\x01",
    "empty": lambda content: b"",
    "garbage": lambda content: random.Random(len(content)).randbytes(200),
    "other JSON": lambda content: b'{"format": [1, null], "outputs": 3}',
    "a list": lambda content: b"[[]]",
}


def damage(file, kind):
    """Spoil a file, or remove it, or put a folder in its place."""
    if kind in DAMAGES:
        file.write_bytes(DAMAGES[kind](file.read_bytes()))
        return
    file.unlink()
    if kind == "a folder":
        file.mkdir()


KINDS = (*DAMAGES, "gone", "a folder")


def files_of(finished):
    files = [path for path in finished.folder.rglob("*") if path.is_file()]
    return sorted(path.relative_to(finished.folder) for path in files)


def try_damage(finished, file, kind, folder):
    """Spoil one file of a copy and run again."""
    work = finished.before("run", folder)
    damage(work / file, kind)
    code, said = finished.command("run", work)
    if code:
        assert code == 2, (file, kind, said)
        assert all(part in said for part in (str(file.name), "Expected", "got")), said
    else:
        finished.require_same(work)
    shutil.rmtree(folder)


@pytest.mark.xdist_group("faults")  # one process makes the run
def test_some_damage_changes_no_result(finished, tmp_path, record_property):
    cases = [(file, kind) for file in files_of(finished) for kind in KINDS]
    sample = random.Random(0).sample(cases, SAMPLE)
    record_property("cases", len(sample))
    for number, (file, kind) in enumerate(sample):
        try_damage(finished, file, kind, tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [*NAMES, "run"])
def test_no_damage_changes_a_result(finished, stage, kind, tmp_path, record_property):
    of_run = stage == "run"
    files = [
        f
        for f in files_of(finished)
        if (f.parts[0] not in NAMES if of_run else f.parts[0] == stage)
    ]
    record_property("cases", len(files))
    for number, file in enumerate(files):
        try_damage(finished, file, kind, tmp_path / str(number))
