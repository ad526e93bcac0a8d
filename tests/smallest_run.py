"""Parameters of the smallest run of all stages, of which tests change what they are about."""

SMALLEST = (
    "model.name=lenet-300-100",
    "data.size=8",
    "data.calibration=128",
    "train.epochs=1",
    "extract.rows=512",
    "finetune.epochs=1",
    "evaluate.latency_repeats=3",
    "evaluate.export=[]",
    "compute.device=cpu",
)
