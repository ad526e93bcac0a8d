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
