"""Figures: their files, their place in a page, and drawing from several threads."""

import json
import re
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import pytest

from mipp.page.svg import KEPT, VARIABLES, inline_svg
from mipp.report.figures import FIGURES, draw_figures
from mipp.report.pixels import draw_pixels
from mipp.report.plane import draw_plane
from mipp.report.profile import PANELS, shown_groups
from mipp.report.run import read_run
from mipp.report.sweep_figures import Curve, Panel, draw_panels


@pytest.fixture
def run(workdir):
    workdir.kept_pixels = [[True, False, True], [False, False, False]]
    workdir.trade_off = [point(0.9, 0.01, None), point(0.5, 0.1, 90.0), point(0.3, 0.4, 80.0)]
    workdir.plane = [
        {"network": network, "epoch": epoch, "layer": layer, "inputs": 2.0 - i, "labels": 1.0}
        for network, epoch in (("training", 0), ("training", 1), ("dense", None), ("refit", None))
        for i, layer in enumerate(("fc1", "output"))
    ]  # fmt: skip
    return read_run(workdir.write())


def point(share, lost, metric):
    """A point of the trade-off curve."""
    size = {"macs_share": share, "params_share": share}
    return {"budget": f"macs:{share:g}", **size, "lost": lost, "metric": metric}


def test_every_figure_is_a_file_of_both_kinds(run, tmp_path):
    drawn = draw_figures(run, tmp_path / "figures")
    assert list(drawn) == list(FIGURES)
    for name in FIGURES:
        assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(tmp_path / f"figures/{name}.svg").getroot().tag.endswith("svg")


@pytest.fixture
def few(monkeypatch):
    """Two kinds of figures stand for all."""
    kept = {name: FIGURES[name] for name in ("cost", "curves")}
    monkeypatch.setattr("mipp.report.figures.FIGURES", kept)


def test_threads_draw_what_one_thread_draws(run, few, tmp_path):
    alone = draw_figures(run, tmp_path / "alone")
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda i: draw_figures(run, tmp_path / str(i)), range(2)))
    assert all(drawn == alone for drawn in together)


def test_drawing_leaves_the_settings_of_the_process(run, few, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_figures(run, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_page_colours_replace_those_of_the_file(run, tmp_path):
    for name, svg in draw_figures(run, tmp_path).items():
        inline = inline_svg(svg, name, "a label")
        assert not [colour for colour in VARIABLES if colour in inline]
        assert inline.startswith('<svg role="img" aria-label="a label"')


def test_many_groups_show_the_first_and_the_last():
    names = [f"block{i}" for i in range(100)]
    shown = shown_groups(names)
    assert len(set(shown)) == PANELS
    assert (shown[0], shown[-1]) == ("block0", "block99")


def test_pixel_map_has_the_shape_of_the_image(run):
    assert run.pixels.kept.tolist() == [[True, False, True], [False, False, False]]
    assert run.pixels.alone[1, 0] == pytest.approx(0.6)  # the fourth of six, row by row
    kept_axes, alone_axes, _ = draw_pixels(run).axes
    assert kept_axes.get_title() == "2 of 6 pixels kept"
    assert kept_axes.images[0].get_array().tolist() == run.pixels.kept.tolist()
    assert alone_axes.images[0].get_array()[0].tolist() == pytest.approx([0, 0.2, 0.4])


def test_run_that_kept_to_its_units_has_no_pixel_map(workdir, tmp_path):
    assert "pixels" not in draw_figures(read_run(workdir.write()), tmp_path)


def test_few_groups_are_all_shown():
    assert shown_groups(["a", "b"]) == ["a", "b"]


def test_plane_has_a_panel_for_training_and_one_for_pruning(run):
    training, pruning = draw_plane(run).axes
    assert (training.get_title(), pruning.get_title()) == ("training", "pruning")
    assert training.lines[1].get_xdata().tolist() == [2.0, 2.0]  # fc1, at two epochs
    assert pruning.texts[1].get_text() == "output"


def test_plane_of_other_networks_is_not_shown(run, workdir):
    manifest = json.loads((workdir.root / "train/manifest.json").read_text())
    manifest["outputs"] = {"file": "another"}
    (workdir.root / "train/manifest.json").write_text(json.dumps(manifest))
    assert run.plane is not None
    assert read_run(workdir.root).plane is None


def test_our_line_is_the_one_of_its_colour_and_width_and_the_first_of_the_legend(tmp_path):
    curves = {name: Curve([0, 1], [2, 3]) for name in (*"abcdefghijkl", "mipp", *"mnopqrstuvwx")}
    svg = draw_panels([Panel("pruned", "removed", "accuracy", curves)], tmp_path, "sweep")
    lines = re.findall(r"stroke: (#\w+); stroke-width: ([\d.]+)", svg)
    assert [width for colour, width in lines if colour == KEPT] == ["2.6"] * 2  # axes, legend
    assert [colour for colour, width in lines if width == "2.6"] == [KEPT] * 2
    names = re.findall(r">(\w+)</text>", svg)
    assert [name for name in names if name in curves] == ["mipp", *"abcdefghijklmnopqrstuvwx"]


def test_points_that_are_not_joined_have_no_line(tmp_path):
    curves = {"mipp": Curve([0, 1], [2, 3]), "l1": Curve([0, 1], [3, 2])}
    svg = draw_panels([Panel("pruned", "s", "%", curves, joined=False)], tmp_path, "points")
    assert "stroke-width: 2.6" not in svg  # which is that of our line
    assert len(re.findall(rf"<use [^>]*stroke: {KEPT}", svg)) == 2 + 1  # axes, legend
