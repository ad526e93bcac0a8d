"""The table that the command prints and the page repeats."""

from mipp.report import result_table
from mipp.report.table import result_rows, share_kept, text_table


def test_networks_that_were_not_made_are_left_out(workdir):
    workdir.without_repair()
    assert [row[0] for row in result_rows(workdir.metrics)] == [
        "dense",
        "pruned",
        "pruned, fine-tuned",
    ]


def test_no_epochs_claim_no_finetuning(workdir):
    labels = [row[0] for row in result_rows(workdir.metrics, epochs=0)]
    assert labels[-1] == "final, not fine-tuned"


def test_network_pruned_untrained_is_called_so_and_gains_nothing(workdir):
    workdir.at_initialisation()
    assert [row[:3] for row in result_rows(workdir.metrics, epochs=2)] == [
        ("dense, untrained", "10.00", ""),
        ("pruned, untrained", "11.00", ""),
        ("pruned, then trained for 2 epochs", "94.00", ""),
    ]


def test_one_epoch_is_not_many(workdir):
    workdir.at_initialisation()
    labels = [result_rows(workdir.metrics, epochs)[-1][0] for epochs in (None, 0, 1)]
    assert labels == [
        "pruned, then trained",
        "final, not fine-tuned",
        "pruned, then trained for 1 epoch",
    ]


def test_change_is_against_the_dense_network_in_points(workdir):
    rows = {row[0]: row for row in result_rows(workdir.metrics)}
    assert rows["dense"][1:3] == ("95.00", "")
    assert rows["pruned, refitted"][1:] == ("90.00", "-5.00", "500", "5,000", "1.00")


def test_shares_are_of_the_dense_network(workdir):
    assert share_kept(workdir.metrics) == {
        "units": 0.5,
        "params": 0.5,
        "MACs": 0.5,
        "latency": 0.5,
    }


def test_printed_table_says_what_was_removed_and_gained(workdir):
    text = result_table(workdir.metrics)
    assert "removed: 50.0 % of units, 50.0 % of params, 50.0 % of MACs" in text
    assert "speed-up: 2.00x at batch 64 on cpu, 2 threads; search took 3.0 s" in text


def test_columns_line_up():
    lines = text_table(("name", "n"), [("a", "10"), ("long name", "9")]).splitlines()
    assert lines == ["name        n", "-------------", "a          10", "long name   9"]
