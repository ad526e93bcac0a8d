"""The first table of the evidence keeps networks apart."""

from types import SimpleNamespace

from benchmarks.evidence import front


def point(network, method, repaired, seed=0):
    return {
        "workload": network, "budget": "macs:0.5", "images": 2048, "test_images": 10_000,
        "method": method, "seed": seed, "macs": 50.0, "params": 50.0, "repaired": repaired,
        "recalibrated": None, "seconds": 1.0, "commit": "c", "versions": "v",
    }  # fmt: skip


def test_networks_have_columns_of_their_own(monkeypatch):
    points = [
        point("resnet20", "mipp + refit", 83.0),
        point("resnet20", "mipp + refit", 85.0, seed=1),
        point("cct", "mipp + refit", 76.0),
        point("cct", "OSSCAR", 74.0),
    ]
    kept = SimpleNamespace(all=lambda: points)
    monkeypatch.setattr(front.repairing_page, "points_in", lambda file: kept)
    (table,) = front.without_training()
    assert list(table.header[2:]) == ["resnet20, macs:0.5", "cct, macs:0.5"]
    cells = {row[0]: [cell.split()[0] for cell in row[2:]] for row in table.rows}
    assert cells == {"OSSCAR": ["-", "74.00"], "mipp + refit": ["84.00", "76.00"]}


def trained(method, accuracy, epochs=30, **values):
    point = dict.fromkeys(front.results.COLUMNS) | {"workload": "resnet20", "budget": "macs:0.5"}
    point |= {"method": method, "epochs": epochs, "train_images": 50_000, "precision": "bfloat16"}
    return point | {"seed": 0, "macs": 50.0, "params": 40.0, "finetuned": accuracy, **values}


def test_long_training_is_thirty_epochs_and_more(monkeypatch):
    points = [
        trained("dense", None, raw=88.0),
        trained("mipp, refit start", 87.5),
        trained("Torch-Pruning L2, layer", 86.5),
        trained("mipp", 84.0, epochs=2),
    ]
    kept = SimpleNamespace(all=lambda: points)
    monkeypatch.setattr(front.results, "points_in", lambda file: kept)
    way = {"budget": "macs:0.3", "images": 50_000, "precision": "bfloat16", "seed": 0}
    way |= {"macs": 30.0, "accuracy_dense": 88.0, "cpu_seconds": 9.0}
    ways = [
        way | {"way": "one-shot", "epochs": 30, "accuracy": 86.5},
        way | {"way": "cubic:3", "epochs": 6, "accuracy": 73.0},
    ]
    file = SimpleNamespace(file=None, points=lambda _: SimpleNamespace(all=lambda: ways))
    monkeypatch.setattr(front.rounds, "KEPT", file)
    table, verdict, alone = front.long_training()
    assert {row[0]: row[-1] for row in table.rows} == {
        "dense": "88.00",
        "mipp, refit start": "87.50",
        "Torch-Pruning L2, layer": "86.50",
    }
    assert "30 epochs in bfloat16 on 50,000 images" in table.caption
    assert "+1.00 points" in verdict.text
    assert [(row[4], row[8]) for row in alone.rows] == [("one-shot", "86.50")]
