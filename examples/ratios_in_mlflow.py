"""One measurement, four pruning ratios, compared in MLflow: accuracy against ratio.

python examples/ratios_in_mlflow.py
mlflow ui --backend-store-uri sqlite:///ratios.db   # select the runs, then "Compare"
"""

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn

import mipp

RATIOS = (0.2, 0.4, 0.6, 0.8)


def digits():
    """Training and test images of scikit-learn's digits, (n, 64), with their labels."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return (x[order[:1200]], y[order[:1200]]), (x[order[1200:]], y[order[1200:]])


def trained(x, y):
    """A perceptron that tells the digits apart."""
    torch.manual_seed(0)
    layers = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def accuracy(model, x, y):
    """Percent that is told right."""
    with torch.no_grad():
        return 100 * (model(x).argmax(1) == y).double().mean().item()


def main():
    (x, y), test = digits()
    model = trained(x, y)
    pruner = mipp.Pruner(model, x.split(100))
    ranking = pruner.rank()
    mlflow.set_tracking_uri("sqlite:///ratios.db")
    mlflow.set_experiment("ratios")
    for ratio in RATIOS:
        pruned = pruner.cut(pruner.plan(f"ratio:{ratio}", ranking))
        share = pruned.report.macs / pruned.report.macs_dense
        with mlflow.start_run(run_name=f"ratio:{ratio}"):
            mlflow.log_params({"ratio": ratio, "method": "mipp", "repair": "refit"})
            mlflow.log_metrics({"accuracy": accuracy(pruned.model, *test), "macs_share": share})
    runs = mlflow.search_runs(order_by=["params.ratio"])
    print(runs[["params.ratio", "metrics.macs_share", "metrics.accuracy"]].to_string(index=False))
    print(f"dense: {accuracy(model, *test):.2f}")


if __name__ == "__main__":
    main()
