"""The closed form on disjoint folds: samples against refits, and what becomes of noise."""

import numpy as np
import pytest
import torch
from oracles import RefitTwin, prepare_rows, rows_of_pair

from mipp.errors import EstimationError
from mipp.information.gaussian.folds import FoldedInformation
from mipp.information.null_column import null_column
from mipp.selection.rules import Confidence, Consumer
from mipp.selection.visits import visit_once, visiting_order

SETTINGS = {"ridge": 1e-3, "resolution": 0.3}
ALL = torch.arange(3)


def folded(x, y, seed, folds=5):
    rows = torch.as_tensor(x), torch.as_tensor(y)
    whole = prepare_rows(x, y, **SETTINGS)
    return FoldedInformation(whole, lambda: rows, folds, SETTINGS["ridge"], seed)


def twins(x, y, seed, folds=5):
    """A refit per fold, the null column after the others."""
    null = null_column(torch.as_tensor(x), torch.Generator().manual_seed(seed)).numpy()
    both = np.concatenate([x, null], 1)
    parts = zip(np.array_split(both, folds), np.array_split(y, folds), strict=True)
    return [RefitTwin(*part, **SETTINGS) for part in parts]


def draw(seed, *, n=203, channels=4, block=2):
    rng = np.random.default_rng(seed)
    return rows_of_pair(rng, n=n, channels=channels, block=block, targets=3, noise=2.0)


@pytest.mark.parametrize("n", [203, 51], ids=["more rows than features", "fewer"])
def test_samples_match_refits_in_each_fold(n, seed):
    x, y = draw(seed, n=n, channels=6)
    each, present, order = twins(x, y, seed), set(range(7)), [2, 0, 3, 5, 4, 1]
    elimination = folded(x, y, seed).eliminate_in_order(ALL, order)
    for visit, channel in enumerate(order):
        expected = [t.loss(present, channel) - t.loss(present, 6) for t in each]
        assert elimination.samples(channel).tolist() == pytest.approx(expected, rel=1e-7)
        (elimination.settle if visit % 2 else elimination.drop)(channel)
        present -= set() if visit % 2 else {channel}


def test_restricted_targets_match_refits(seed):
    x, y = draw(seed)
    elimination = folded(x, y, seed).eliminate_in_order(torch.tensor([0, 2]), [1, 0, 2, 3])
    expected = [
        t.loss(range(5), 1, [0, 2]) - t.loss(range(5), 4, [0, 2]) for t in twins(x, y, seed)
    ]
    assert elimination.samples(1).tolist() == pytest.approx(expected, rel=1e-7)


def test_single_and_joint_information_are_those_of_all_rows(seed):
    x, y = draw(seed)
    twin, information = RefitTwin(x, y, **SETTINGS), folded(x, y, seed)
    assert information.joint(ALL) == pytest.approx(twin.information(range(4)))
    singles = [twin.information([c]) for c in range(4)]
    assert information.single(ALL).tolist() == pytest.approx(singles)


# Significance

SEEDS = 200
INFORMATIVE = 5


def verdict_of_noise(seed):
    """Whether a column of noise among informative ones is kept, and how many of those are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, INFORMATIVE + 1, 1))
    y = x[:, :INFORMATIVE, 0] @ rng.normal(size=(INFORMATIVE, 3)) + rng.normal(size=(1000, 3))
    information = folded(x, y, seed)
    single = information.single(ALL)
    elimination = information.eliminate_in_order(ALL, visiting_order(single))
    verdicts = visit_once([Consumer(elimination)], single, Confidence(95), 0)
    kept = {v.channel for v in verdicts if v.kept}
    return INFORMATIVE in kept, len(kept - {INFORMATIVE})


def test_noise_is_dropped_at_95_percent_confidence_in_95_percent_of_seeds():
    noise, informative = zip(*(verdict_of_noise(seed) for seed in range(SEEDS)), strict=True)
    assert 0.93 <= 1 - np.mean(noise) <= 0.97
    assert np.mean(informative) > 0.99 * INFORMATIVE


def test_too_few_rows_are_refused():
    match = (
        r"(?s)49 rows.*5 disjoint folds \(Gaussian\.repeats\).*least 50, got 49; raise Mipp\.rows"
    )
    with pytest.raises(EstimationError, match=match):
        folded(*draw(0, n=49), 0).eliminate_in_order(ALL, range(4))


def test_fewest_rows_are_taken():
    elimination = folded(*draw(0, n=50), 0).eliminate_in_order(ALL, range(4))
    assert torch.isfinite(elimination.samples(0)).all()
