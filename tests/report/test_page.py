"""The page as a whole: complete, self-contained, well-formed, the same twice."""

import json
import re
from html.parser import HTMLParser

import pytest

from mipp.errors import WorkdirError
from mipp.page import html_page
from mipp.report import render
from mipp.report.figures import FIGURES
from mipp.report.markdown_page import markdown_page
from mipp.report.page import compose
from mipp.report.run import read_run

VOID = {"meta", "link", "br", "img", "hr", "input"}
SECTIONS = ["Result", "Notes", "Groups", "Left whole", "Units", "Figures", "Cost", "Reproduce"]
ADVICE = "What to try next"


class Reader(HTMLParser):
    """Text of a page, and complaints about tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.text, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def report(workdir, tmp_path, title="A report"):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    render(workdir.write() if not workdir.root.exists() else workdir.root, out, title=title)
    return out


def undrawn(workdir):
    """The page with its figures left empty, which take most of its time."""
    figures = dict.fromkeys(FIGURES, "<svg></svg>")
    return html_page(compose(read_run(workdir.write()), "A report", figures), figures)


def markdown(workdir, title="A report"):
    """The page in Markdown, without drawing."""
    root = workdir.root if workdir.root.exists() else workdir.write()
    return markdown_page(compose(read_run(root), title, FIGURES))


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def criterion(workdir):
    workdir.params["choose"]["method"] = "l1"


def untouched(workdir):
    pass


def diverged(workdir):
    workdir.history["finetune"][0]["train_loss"] = float("nan")
    workdir.history["finetune"][0]["validation_loss"] = float("inf")
    workdir.values = {"fc1": (float("nan"), float("nan"))}


def many_groups(workdir):
    workdir.values = {f"block{i}": (0.1, 0.2) for i in range(30)}


def without_validation(workdir):
    for history in workdir.history.values():
        for epoch in history:
            epoch |= {"validation_loss": None, "validation_accuracy": None}


def without_training(workdir):
    workdir.without_repair()
    workdir.history["train"] = []


VARIANTS = [
    untouched,
    criterion,
    diverged,
    many_groups,
    without_validation,
    without_training,
    lambda workdir: workdir.without_repair(),
    lambda workdir: workdir.at_initialisation(),
]


@pytest.mark.parametrize("change", VARIANTS)
def test_page_has_every_section_with_balanced_tags_and_nothing_from_outside(
    workdir, tmp_path, change
):
    change(workdir)
    page = (report(workdir, tmp_path) / "report.html").read_text()
    reader = read(page)
    assert reader.wrong == []
    assert reader.open == []
    assert [title for title in re.findall("<h2>(.*?)</h2>", page) if title != ADVICE] == SECTIONS
    assert not re.search(r"https?:|<link|@import|\bsrc=|url\((?!#)", page)


def test_ids_are_unique_and_every_reference_has_one(workdir, tmp_path):
    page = (report(workdir, tmp_path) / "report.html").read_text()
    ids = read(page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', page))
    for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', page):
        assert "".join(pair) in ids


def test_equal_stage_folders_give_equal_bytes(workdir, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    root = workdir.write()
    for out in (first, second):
        out.mkdir()
        render(root, out, title="A report")
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert len(files) == 8  # html, md, three figures twice
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_every_group_and_layer_is_named(workdir, tmp_path):
    out = report(workdir, tmp_path)
    for page in (out / "report.html", out / "report.md"):
        text = page.read_text()
        for name in ("fc1", "conv1", "head"):
            assert name in text


EPOCH = {
    "epoch": 1,
    "train_loss": 2.0,
    "train_accuracy": 0.5,
    "validation_loss": None,
    "validation_accuracy": None,
}
NO_HISTORY = {
    "no list": {"epoch": 1},
    "no epochs": [1, 2],
    "an epoch that never was": [{**EPOCH, "epoch": 1e20}],
    "an epoch left out": [EPOCH, {**EPOCH, "epoch": 3}],
    "words for a loss": [{**EPOCH, "train_loss": "low"}],
    "no loss": [{key: value for key, value in EPOCH.items() if key != "train_loss"}],
}


@pytest.mark.parametrize("kind", NO_HISTORY)
def test_history_of_another_kind_is_refused(kind, workdir, tmp_path):
    workdir.history["train"] = NO_HISTORY[kind]
    with pytest.raises(WorkdirError, match=r"history .* cannot be read.\nExpected epochs .*, got"):
        report(workdir, tmp_path)


def test_names_are_escaped_in_the_page_and_inert_in_markdown(workdir, tmp_path):
    name = 'a<b>&"|$x$`'
    workdir.values[name] = (0.1, 0.2)
    workdir.fits[0]["layer"] = name
    workdir.left_whole[name] = "<i>reason</i>"
    out = report(workdir, tmp_path, title="<script>alert(1)</script> *now*")
    page = (out / "report.html").read_text()
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<script>alert" not in page
    assert "a&lt;b&gt;&amp;&quot;|$x$" in page
    text = (out / "report.md").read_text()
    assert r"\<script\>alert(1)\</script\> \*now\*" in text
    assert r"\<i\>reason" in text
    row = next(line for line in text.splitlines() if r"| `a<b>&" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 8  # seven columns


def test_markdown_refers_to_figures_that_exist(workdir, tmp_path):
    out = report(workdir, tmp_path)
    found = re.findall(r"!\[\w+\]\(([^)]*)\)", (out / "report.md").read_text())
    assert len(found) == 3
    assert all((out / path).stat().st_size > 1000 for path in found)


def test_no_epochs_draw_no_curves(workdir, tmp_path):
    without_training(workdir)
    out = report(workdir, tmp_path)
    assert not (out / "figures/curves.svg").exists()
    assert (out / "figures/profiles.png").exists()


def test_information_has_its_own_columns(workdir):
    assert "| nats | given up | least kept |" in markdown(workdir)


def test_scores_are_not_called_information(workdir):
    criterion(workdir)
    text = markdown(workdir)
    assert "| most dropped | least kept |" in text
    assert "given up" not in text
    assert "by the score `l1`" in text


def test_group_row_adds_up(workdir):
    text = markdown(workdir)
    assert "| `fc1` | 4 | 2 | 50.0 | 1.25 | 1e-09 | 0.02 |" in text
    assert text.index("| `conv1`") < text.index("| `fc1`")  # inputs first


def test_layers_left_whole_come_with_their_share_their_reasons_and_what_to_do(workdir):
    workdir.left_whole = {"a": "it is odd", "b": "it is odd", "c": "it is even"}
    text = markdown(workdir)
    row = "| a, b, c | 25 | 0.123 | it is odd; it is even | nothing: that is its answer |"
    assert row in text


def rows_of(page):
    """What the page's script reads: the rows of its searched table."""
    [data] = re.findall('<script type="application/json">(.*?)</script>', page)
    return json.loads(data)["rows"]


def test_every_unit_is_among_the_rows_that_are_searched(workdir):
    rows = rows_of(undrawn(workdir))
    assert [row[:2] for row in rows[:2]] == [
        ["conv1", 1],
        ["conv1", 0],
    ]  # as they are read, reversed
    assert ["fc1", 0, 0.0, "dropped", "redundant"] in rows
    assert len(rows) == 6


def test_rows_that_are_searched_end_no_script_and_are_json_whatever_their_values(workdir):
    name = "</script><b>"
    workdir.values[name] = (float("nan"), float("inf"))
    page = undrawn(workdir)
    values = [row[2] for row in rows_of(page) if row[0] == name]
    assert values == ["inf", "nan"]
    assert name not in page


def test_headline_without_finetuning_claims_none(workdir):
    workdir.without_repair()
    text = markdown(workdir)
    assert "accuracy 95.00 → 60.00 % without any training (only pruned)." in text
    assert "final, not fine-tuned" in text
    assert "pruned, fine-tuned" not in text


def test_headline_names_training_and_its_absence(workdir):
    text = markdown(workdir)
    assert (
        "50.0 % of MACs removed, accuracy 95.00 → 94.00 % after fine-tuning, 90.00 % without any "
        "training (refitted)." in text
    )


def test_pruning_at_initialisation_is_not_held_to_the_accuracy_of_chance(workdir):
    workdir.at_initialisation()
    text = markdown(workdir)
    assert (
        "Pruned at initialisation, 50.0 % of MACs removed, 94.00 % after training for 2 epochs."
        in text
    )
    assert "pruned at initialisation by mutual information" in text
    assert "then trained for 2 epochs; seed 0." in text
    assert "- accuracy: **94.00 %** (no trained dense network to compare with)" in text
    for part in ("84.00", "→ 94.00", "change in points", "fine-tun"):
        assert part not in text


def test_missing_stage_is_named(workdir, tmp_path):
    root = workdir.write()
    (root / "prune/manifest.json").unlink()
    with pytest.raises(WorkdirError, match=r"(?s)stage 'prune' is missing.*prune/manifest.json"):
        render(root, tmp_path, title="A report")


def test_report_stands_without_the_stages_that_only_feed_others(workdir):
    root = workdir.write()
    for stage in ("extract", "estimate"):
        for file in (root / stage).iterdir():
            file.unlink()
    text = markdown(workdir)
    assert "Parameters of `extract`, `estimate` are not known here." in text


def test_report_does_not_name_the_machine(workdir):
    root = workdir.write()
    timing = root / "train/timing.json"
    timing.write_text(json.dumps(json.loads(timing.read_text()) | {"host": "node-17"}))
    assert "node-17" not in markdown(workdir)
