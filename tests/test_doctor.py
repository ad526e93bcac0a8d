"""`mipp doctor`: what is there is found, what is missing is named with its mend."""

import json
import shutil
from importlib import metadata
from types import SimpleNamespace

import pytest

from mipp import doctor
from mipp.cli import main
from mipp.commands.doctor import SIGNS
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.stages import STAGES, run_stage
from tests.smallest_run import SMALLEST


def found(capsys, tmp_path, *sets):
    """Exit code, and findings by what they are about."""
    options = [f"--set={one}" for one in (*SMALLEST, *sets)]
    code = main(["doctor", "--json", "--workdir", str(tmp_path / "work"), *options])
    return code, {one["what"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_machine_that_has_all_is_told_so_and_nothing_is_left(tmp_path, capsys):
    code, findings = found(capsys, tmp_path)
    assert code == 0
    assert {one["state"] for one in findings.values()} <= {"good", "note"}
    assert findings["data"]["says"].startswith("digits: 1,293 images to train on, 360 to test")
    assert not any(tmp_path.iterdir())


def test_what_the_store_takes_is_foretold(tmp_path, capsys):
    params = load_params(overrides=SMALLEST)
    workdir = Workdir(tmp_path / "run")
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], workdir, params)
    files = [file for file in (tmp_path / "run/extract").rglob("*") if file.is_file()]
    written = sum(file.stat().st_size for file in files if "c" in file.parts)  # chunks
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "_disk", lambda workdir, need: told.append(need))
        list(doctor._data_and_disk(params, str(tmp_path)))
    assert told[0] == pytest.approx(written, rel=0.01)  # a checksum for each chunk


def test_a_url_is_looked_at_where_it_is_mirrored(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path))
    options = [f"--set={one}" for one in SMALLEST]
    assert main(["doctor", "--workdir", "memory://run", *options]) == 0
    assert f"memory://run, mirrored in {tmp_path}" in capsys.readouterr().out
    assert main(["doctor", "--workdir", "nowhere://run", *options]) == 2
    assert "!!  work directory  work directory nowhere://run cannot be" in capsys.readouterr().out


LACKING = {
    "data": ("data.name=mnist", "data.root=/nowhere", "was not found"),
    "device": ("compute.device=cuda:9", "model.name=lenet5", "compute.device"),
}


@pytest.mark.parametrize("what", LACKING)
def test_what_is_lacking_is_bad(what, tmp_path, capsys):
    *sets, says = LACKING[what]
    code, findings = found(capsys, tmp_path, *sets)
    assert code == 2
    assert findings[what]["state"] == "bad"
    assert says in findings[what]["says"]


def test_a_network_that_does_not_fit_the_images_is_bad(tmp_path, capsys):
    code, findings = found(capsys, tmp_path, "model.name=lenet5", "data.size=8")
    assert (code, findings["data"]["state"]) == (2, "bad")


def test_too_little_space_is_bad(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10**9))
    code, findings = found(capsys, tmp_path)
    assert (code, findings["work directory"]["state"]) == (2, "bad")
    assert "Expected 2.1 GB free" in findings["work directory"]["says"]


def test_a_python_out_of_bounds_is_bad(monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.1")
    [python, *_] = doctor._packages()
    assert (python.state, ">=3.11" in python.says) == ("bad", True)


def test_sources_that_are_not_installed_are_no_fault(monkeypatch):
    monkeypatch.setattr(doctor, "DISTRIBUTION", "nothing-of-this-name")
    [packages] = doctor._packages()
    assert (packages.what, packages.state) == ("packages", "note")


@pytest.mark.parametrize(("version", "says"), [("0.1", "does not fit"), (None, "not installed")])
def test_packages_that_do_not_fit_are_named_with_the_command(version, says, monkeypatch):
    plain = metadata.version

    def other(name):
        if name != "zarr":
            return plain(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", other)
    (wrong,) = [one for one in doctor._packages() if one.what == "package"]
    assert wrong.state == "bad"
    assert says in wrong.says
    assert "run `pip install 'zarr" in wrong.says


def test_the_text_has_a_line_for_each_finding(tmp_path, capsys):
    assert main(["doctor", "--workdir", str(tmp_path), *(f"--set={o}" for o in SMALLEST)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line[:2] in SIGNS.values() for line in lines)
    assert any("work directory" in line for line in lines)
