"""The final network as programs that run without mipp."""

from __future__ import annotations

from mipp.page.document import Table, code
from mipp.report.run import Run


def program_table(run: Run) -> Table:
    """File, size and batch size of each exported program."""
    return Table(
        ("exported to", "kB", "batch size"),
        [
            (code(done["file"]), f"{done['bytes'] / 1000:,.0f}", str(done["batch"] or "any"))
            for done in run.metrics["exports"].values()
        ],
        "The final network as programs that need neither mipp nor the network's code: `.pt2` runs "
        "where torch is (`torch.export.load(path).module()`), `.onnx` in onnxruntime. Each gave "
        "the network's outputs on random inputs.",
    )
