"""What a fault of a disk kept a run from: reading or writing, told wherever it can be told."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mipp.disk.faults import FAULTS, disk_faults_told
from mipp.disk.whole_files import locked, written_whole
from mipp.errors import StorageError
from tests.light_process import LIGHT

STAGE = """
import os, sys
from pathlib import Path
from mipp.disk.faults import disk_faults_told
from mipp.disk.whole_files import write_whole
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
with disk_faults_told(Path(sys.argv[1])):
    {act}
"""


def told(folder, error):
    """What is said of an error in a run in this folder."""
    with pytest.raises(StorageError) as raised, disk_faults_told(folder):
        raise error
    assert raised.value.__cause__ is error
    return str(raised.value)


def fault(number, path=None, renamed_to=None):
    """As Python raises it: with the path, with both of a renaming, or with none."""
    paths = [str(one) for one in (path, renamed_to) if one is not None]
    named = [paths[0], None, paths[1]] if len(paths) == 2 else paths
    return OSError(number, os.strerror(number), *named)


@pytest.fixture
def image(tmp_path):
    """A file of data beside a work directory."""
    (tmp_path / "work").mkdir()
    (tmp_path / "image.png").write_bytes(b"pixels")
    return tmp_path / "image.png"


def test_failing_disk_that_data_lie_on_cannot_be_read(image):
    said = told(image.parent / "work", fault(errno.EIO, image))
    assert said.startswith(f"{image} cannot be read: Input/output error.\nExpected a file that")
    assert "look after the disk" in said
    assert "bytes free" not in said  # of the disk of the results, which is another matter


def test_failing_disk_cannot_be_written_where_a_stage_is_not_whole_yet(image):
    work = image.parent / "work"
    with written_whole(work / "train") as partial:
        partial.mkdir()
        (partial / "model").write_text("half")
        said = told(work, fault(errno.EIO, partial / "model"))
        renaming = told(work, fault(errno.EIO, work / "train", partial.with_name("x.partial-old")))
    assert said.startswith(
        f"{partial / 'model'} cannot be written: Input/output error.\nExpected a"
    )
    assert "place for the results" in said
    assert renaming.startswith(f"{work / 'train'} cannot be written")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_what_only_writing_meets_is_told_as_such_wherever_it_is(image, number):
    assert f"{image} cannot be written: " in told(image.parent / "work", fault(number, image))
    assert "work cannot be written: " in told(image.parent / "work", fault(number))


def test_fault_that_names_no_file_may_be_of_either(image):
    said = told(image.parent / "work", fault(errno.EIO))
    assert said.startswith(f"{image.parent / 'work'} cannot be read or written: ")
    rust = RuntimeError("cannot open: Input/output error (os error 5)")
    assert "cannot be read or written: " in told(image.parent / "work", rust)


def test_lock_that_cannot_be_had_is_written(image):
    work = image.parent / "work"
    (work / ".run.lock").mkdir()
    with (
        pytest.raises(StorageError, match=r"\.run\.lock cannot be written: Is a directory"),
        disk_faults_told(work),
        locked(work / ".run.lock"),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("act", "closed", "place", "failed"),
    [
        ("open(sys.argv[2], 'rb')", "image.png", "image.png", "read"),
        ("os.unlink(sys.argv[2])", ".", "image.png", "written"),
        ("os.mkdir(Path(sys.argv[1], 'train'))", "work", "work/train", "written"),
        ("write_whole(Path(sys.argv[1], 'a'), 'a')", "work", "work/.a.partial-", "written"),
    ],
)
def test_missing_permission_is_one_of_reading_or_of_writing(act, closed, place, failed):
    """As a user whom files are closed to: root, who may do all, becomes nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own are closed to nobody
        (folder / "work").mkdir()
        (folder / "image.png").write_bytes(b"pixels")
        (folder / closed).chmod(0o000 if (folder / closed).is_file() else 0o555)
        program = LIGHT + STAGE.format(act=act)
        command = [sys.executable, "-c", program, str(folder / "work"), str(folder / "image.png")]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        (folder / closed).chmod(0o755)
    assert f"StorageError: {folder / place}" in said
    assert f"cannot be {failed}: Permission denied" in said
    assert FAULTS[errno.EACCES] in said
