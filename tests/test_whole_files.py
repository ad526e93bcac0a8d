"""Files and folders that appear whole, whatever ends their writer, and locks between processes."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mipp.disk import whole_files
from mipp.disk.whole_files import locked, write_whole, written_whole
from mipp.errors import StorageError
from tests.light_process import LIGHT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(program, *arguments):
    """The program in a process of its own, which has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIGHT + program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("content", ["text", b"\x00bytes"])
def test_file_holds_what_was_written_and_nothing_is_beside_it(content, tmp_path):
    write_whole(tmp_path / "new/file", content)
    assert (tmp_path / "new/file").read_bytes() == (
        content if isinstance(content, bytes) else b"text"
    )
    assert names(tmp_path / "new") == ["file"]


def test_file_is_as_it_was_until_the_block_ends(tmp_path):
    write_whole(tmp_path / "file", "old")
    with written_whole(tmp_path / "file") as partial:
        partial.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"


def write_half_a_file(partial):
    partial.write_text("half")
    raise OSError("disk full")


def write_half_a_folder(partial):
    partial.mkdir()
    write_half_a_file(partial / "half")


@pytest.mark.parametrize("write", [write_half_a_file, write_half_a_folder])
def test_block_that_fails_leaves_what_was_there(write, tmp_path):
    write_whole(tmp_path / "kept", "old")
    with pytest.raises(OSError, match="disk full"), written_whole(tmp_path / "kept") as partial:
        write(partial)
    assert names(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


def test_folder_takes_the_place_of_an_old_one_whole(tmp_path):
    for name in ("old", "new"):
        with written_whole(tmp_path / "stage") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert names(tmp_path / "stage") == ["new"]
    assert names(tmp_path) == ["stage"]


def test_folder_takes_the_place_of_a_link_and_leaves_what_it_led_to(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/kept").touch()
    (tmp_path / "stage").symlink_to(tmp_path / "other", target_is_directory=True)
    with written_whole(tmp_path / "stage") as partial:
        partial.mkdir()
    assert names(tmp_path / "stage") == []
    assert names(tmp_path / "other") == ["kept"]


WRITER = """
import sys, time
from pathlib import Path
from mipp.disk.whole_files import written_whole
with written_whole(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "half").touch()
    print("half", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead, alive = run(WRITER, tmp_path / "stage"), run(WRITER, tmp_path / "stage")
    end(dead)
    try:
        assert len(names(tmp_path)) == 2
        write_whole(tmp_path / "another", "")  # of another name
        assert len(names(tmp_path)) == 3
        with written_whole(tmp_path / "stage") as partial:
            partial.mkdir()
        left = [name for name in names(tmp_path) if "partial" in name]
        assert [name.split("-")[1] for name in left] == [str(alive.pid)]
    finally:
        end(alive)


def test_partial_of_another_machine_is_left_alone(tmp_path):
    (tmp_path / ".file.partial-999999999-1-elsewhere").touch()
    write_whole(tmp_path / "file", "")
    assert ".file.partial-999999999-1-elsewhere" in names(tmp_path)


HOLDER = """
import sys
from pathlib import Path
from mipp.disk.whole_files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_is_waited_for(tmp_path):
    holder, inside = run(HOLDER, tmp_path / "locks/one"), threading.Event()

    def enter():
        with locked(tmp_path / "locks/one"):
            inside.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not inside.wait(0.5)
    holder.communicate()  # and let it end
    waiting.join()
    assert inside.is_set()


def test_killed_process_lets_go_of_its_lock(tmp_path):
    end(run(HOLDER, tmp_path / "one"))
    with locked(tmp_path / "one"):
        pass


class Windows:
    """A stand-in for msvcrt whose file is held by another process for the first tries."""

    LK_NBLCK = 2

    def __init__(self, tries):
        self.tries, self.asked = tries, []

    def locking(self, descriptor, mode, size):
        self.asked.append((mode, size))
        os.fstat(descriptor)  # of an open file
        if len(self.asked) < self.tries:
            raise OSError("held")


def test_lock_without_fcntl_is_tried_until_it_is_had(monkeypatch, tmp_path):
    windows = Windows(tries=3)
    monkeypatch.setattr(whole_files, "fcntl", None)
    monkeypatch.setattr(whole_files, "msvcrt", windows)
    monkeypatch.setattr(whole_files, "_PAUSE", 0.0)
    with locked(tmp_path / "one"):
        assert windows.asked == [(2, 1)] * 3


def test_system_that_cannot_lock_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(whole_files, "fcntl", None)
    monkeypatch.setattr(whole_files, "msvcrt", None)
    with pytest.raises(StorageError, match="one cannot be locked"), locked(tmp_path / "one"):
        pass
