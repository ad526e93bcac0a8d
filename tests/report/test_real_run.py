"""The report of real stage folders, beside those that the other tests write by hand."""

import pytest

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.report import render
from mipp.stages import run_all

QUICK = ["train.epochs=1", "finetune.epochs=1", "extract.rows=256", "data.calibration=128"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mipp", "random"])
def test_report_of_a_real_run_can_be_made_again_byte_by_byte(tmp_path, method):
    params = load_params(
        overrides=[*QUICK, f"choose.method={method}", "evaluate.latency_repeats=1"]
    )
    run_all(Workdir(tmp_path / "work"), params)
    render(tmp_path / "work", tmp_path, title=params.report.title)
    for name in ("report.html", "report.md", "figures/profiles.svg", "figures/profiles.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "work/report" / name).read_bytes()
    text = (tmp_path / "report.md").read_text()
    assert "With 360 test images" in text
    assert "--set train.epochs=1" in text
