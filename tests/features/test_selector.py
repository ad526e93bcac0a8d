"""`TERCSelector`: scikit-learn's own checks, answers that are known, and bad input."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import mipp
from mipp.features import TERCSelector

ORDERS = ("terc", "mrmr", "mifs", "cmim", "vmi", "sage")


@parametrize_with_checks([TERCSelector(order=order) for order in ORDERS[:2]])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_takes_it_for_one_of_its_own(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([TERCSelector(order=order) for order in ORDERS[2:]])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_takes_every_order(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def copies():
    """Two columns that tell, two of noise, and a copy of each that tells."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    x = np.column_stack([x, x[:, :2]])
    return x, x[:, 0] + 2 * x[:, 1] + 0.5 * rng.normal(size=500)


def test_sure_finds_how_many_by_itself(copies):
    found = TERCSelector("sure").fit(*copies)
    assert found.get_support(indices=True).tolist() == [4, 5]  # of copies, the one visited last
    assert found.information_[[0, 1, 2, 3]] == pytest.approx(0, abs=2e-3)
    assert found.ranking_.tolist()[4:] == [1, 1]
    assert sorted(found.ranking_) == [1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", ["terc", "mrmr", "cmim", "vmi"])
def test_a_copy_is_worth_nothing_beside_its_original(copies, order):
    kept = TERCSelector(2, order=order).fit(*copies).get_support(indices=True)
    assert {column % 4 for column in kept} == {0, 1}


def test_classes_are_told_by_any_labels(copies):
    x, y = copies
    number = TERCSelector(3).fit(x, (y > 0).astype(int))
    words = TERCSelector(3).fit(x, np.where(y > 0, "high", "low"))
    assert np.array_equal(number.support_, words.support_)
    assert np.array_equal(number.information_, words.information_)


def test_scale_and_order_of_columns_change_nothing(copies):
    x, y = copies
    x = np.column_stack([x[:, :4], x[:, 4:] + 0.3 * np.random.default_rng(1).normal(size=(500, 2))])
    order = [5, 2, 0, 4, 1, 3]
    plain, other = TERCSelector(3).fit(x, y), TERCSelector(3).fit(1e3 * x[:, order] + 7, y)
    assert other.support_.tolist() == plain.support_[order].tolist()
    assert other.information_ == pytest.approx(plain.information_[order])


def test_variables_of_the_state_are_found_among_others():
    """Cart and pole, linear about the top: the next state needs all four and the force."""
    rng = np.random.default_rng(0)
    state = rng.normal(size=(2000, 4))
    force = rng.choice([-1.0, 1.0], size=2000)
    x, v, angle, turning = state.T
    now = [x + 0.02 * v, v + 0.2 * force - 0.1 * angle, angle + 0.02 * turning, turning + angle]
    after = np.stack(now, 1) + 0.01 * rng.normal(size=(2000, 4))
    noise = rng.normal(size=(2000, 3))
    late = x + 0.5 * rng.normal(size=2000)  # a poor sight of the cart
    columns = np.column_stack([state, force, noise, late, angle])  # the last is seen twice
    kept = set(TERCSelector("sure").fit(columns, after).get_support(indices=True))
    assert {0, 1, 3, 4} <= kept
    assert len(kept & {2, 9}) == 1
    assert not kept & {5, 6, 7, 8}


def test_perceptrons_see_what_a_line_does_not():
    """The target is x0 xor x1, of which neither tells anything alone."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], size=(1200, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    few = mipp.Reconstruction(rows=800, held_out=300, repeats=2, epochs=20, retrain_epochs=5)
    assert TERCSelector(2, estimator=few).fit(x, y).get_support(indices=True).tolist() == [0, 1]


def test_half_of_the_columns_serves_a_classifier_as_well():
    x, y = load_breast_cancer(return_X_y=True)
    last = LogisticRegression(max_iter=1000)
    every = cross_val_score(make_pipeline(StandardScaler(), last), x, y, cv=5).mean()
    half = make_pipeline(StandardScaler(), TERCSelector(), last)
    assert cross_val_score(half, x, y, cv=5).mean() > every - 0.01


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_features_to_select": 0}, "Expected 1 to 6"),
        ({"n_features_to_select": 7}, "with 6 features"),
        ({"n_features_to_select": 1.5}, "a share above 0 and up to 1.0"),
        ({"n_features_to_select": True}, "n_features_to_select=True"),
        ({"n_features_to_select": "half"}, "or 'sure'"),
        ({"n_features_to_select": "sure", "confidence": 100.0}, "confidence=100.0"),
        ({"n_features_to_select": "sure", "order": "mrmr"}, "tests nothing"),
        ({"order": "relief"}, "one of terc, mrmr, mifs, cmim, vmi, sage, got 'relief'"),
        ({"order": "cmim", "estimator": "reconstruction"}, "has no effect"),
        ({"estimator": "gausian"}, "gaussian"),
    ],
)
def test_what_cannot_be_had_is_said(copies, options, said):
    with pytest.raises(ValueError, match=said):
        TERCSelector(**options).fit(*copies)


def test_too_few_rows_for_a_test_are_said(copies):
    x, y = copies
    with pytest.raises(
        ValueError, match=r"40 rows are too few for 5(.|\n)*raise the number of rows of X"
    ):
        TERCSelector("sure").fit(x[:40], y[:40])


def test_mipp_hands_it_out():
    assert mipp.TERCSelector is TERCSelector  # test_import.py: without importing scikit-learn
