"""The paper's estimator where the answer is known: TERC's toy sets, copies, and its own twins."""

import dataclasses

import numpy as np
import pytest
import torch
from oracles import TERC_NATS, TERC_SETS, all_equal, nats_of_bits, prepare_rows, rows_of_pair

from mipp.errors import EstimationError
from mipp.information import reconstruction
from mipp.information.reconstruction import elimination as masked
from mipp.information.reconstruction.perceptron import Perceptrons
from mipp.information.reconstruction.rows import pair_rows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.information.reconstruction.state import ReconstructionInformation
from mipp.selection.rules import Confidence, Consumer, Threshold
from mipp.selection.visits import visit_once, visiting_order

SMALL = ReconstructionSettings(
    rows=400, held_out=150, width=16, epochs=10, batch_size=64, retrain_epochs=2
)
ALL = torch.arange(3)
ENOUGH = 10_000  # rows of a toy set


def small(seed, **fields):
    return dataclasses.replace(SMALL, seed=seed, **fields)


def estimated(x, y, settings, state=None):
    """The estimator's answers for rows x (n, channels, block) and y."""
    rows = pair_rows(torch.as_tensor(x), torch.as_tensor(y), settings, "up--down")
    state = reconstruction.prepare(rows, settings) if state is None else state
    return ReconstructionInformation(state, lambda: rows, settings)


def linear_pair(seed, *, channels=5, block=1, n=600):
    rng = np.random.default_rng(seed)
    return rows_of_pair(rng, n=n, channels=channels, block=block, targets=3)


def walk(information, rule, targets=ALL):
    """Verdicts of a walk over one pair."""
    single = information.single(targets)
    elimination = information.eliminate_in_order(targets, visiting_order(single))
    return visit_once([Consumer(elimination)], single, rule, 0)


def kept(verdicts):
    return sorted(verdict.channel for verdict in verdicts if verdict.kept)


# TERC's toy sets


def toy_rows(name, seed):
    """Bit of each column (6,), shuffled; the columns (n, 6, 1); A as classes (n,)."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (ENOUGH, 3))
    of = rng.permutation(TERC_SETS[name])
    return of, bits[:, of, None].astype(np.float32), all_equal(bits)


def toy_answer(name, seed):
    """Bits whose copies are kept, and the joint information, at the default settings."""
    of, x, y = toy_rows(name, seed)
    information = estimated(x, y, ReconstructionSettings(seed=seed))
    joint = information.joint(torch.arange(1))
    rule = Confidence(95, margin=1e-3 * joint)
    return [int(of[c]) for c in kept(walk(information, rule, torch.arange(1)))], joint


def loses_nothing(bits):
    """They carry all of A's information, by enumeration, and would not without any of them."""
    without = [nats_of_bits([*bits[:i], *bits[i + 1 :]]) for i in range(len(bits))]
    return nats_of_bits(bits) == pytest.approx(TERC_NATS) and max(without) < TERC_NATS - 0.1


def test_toy_sets_hold_what_their_enumeration_says():
    assert pytest.approx(0.5623, abs=5e-5) == TERC_NATS
    assert [nats_of_bits([bit]) for bit in range(3)] == pytest.approx([0, 0, 0])
    assert nats_of_bits([0, 1]) == pytest.approx(TERC_NATS - np.log(2) / 2)
    assert loses_nothing([2, 0, 1])
    assert not loses_nothing([0, 1])
    assert not loses_nothing([0, 0, 1, 2])


@pytest.mark.parametrize(
    "name",
    [*[*TERC_SETS][:1], *(pytest.param(n, marks=pytest.mark.slow) for n in [*TERC_SETS][1:])],
)
def test_exactly_one_copy_of_each_bit_survives(name, seed):
    bits, joint = toy_answer(name, seed)
    assert sorted(bits) == [0, 1, 2]
    assert loses_nothing(bits)
    deviation = np.log(3) * (3 / 16 / ENOUGH) ** 0.5  # of the entropy of the drawn A
    assert joint == pytest.approx(TERC_NATS, abs=4 * deviation)


@pytest.mark.slow
@pytest.mark.parametrize("name", TERC_SETS)
def test_exactly_one_copy_of_each_bit_survives_in_nine_of_ten_seeds(name):
    answers = [toy_answer(name, seed)[0] for seed in range(10)]
    assert sum(len(bits) == 3 and loses_nothing(bits) for bits in answers) >= 9, answers


@pytest.mark.parametrize("target", ["0 or 1", "one-hot"])
@pytest.mark.parametrize("name", TERC_SETS)
def test_closed_form_fails_on_the_toy_sets_and_sees_no_information_at_all(name, target, seed):
    _, x, y = toy_rows(name, seed)
    y = np.eye(2)[y] if target == "one-hot" else y[:, None].astype(float)
    state, every = prepare_rows(x.astype(float), y), torch.arange(y.shape[1])
    # what 3 independent columns of noise earn: chi-square of 3 / 2n a target, 25 at p = 2e-5
    noise = 25 / (2 * ENOUGH) * y.shape[1]
    assert float(state.single(every).max()) < noise
    assert state.joint(every) < noise < 0.01 * TERC_NATS
    assert kept(walk(state, Threshold(noise), every)) == []


# Continuous targets


def test_copied_column_is_dropped_once_and_its_twin_then_kept(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 3, 1))
    y = x[:, :, 0] + 0.3 * rng.normal(size=(2000, 3))
    settings = small(seed, rows=1500, held_out=300, epochs=20, retrain_epochs=8, retrain_lr=3e-3)
    verdicts = walk(estimated(x[:, [0, 1, 2, 0]], y, settings), Confidence(95, margin=0.02))
    assert sorted(c % 3 for c in kept(verdicts)) == [0, 1, 2]
    visits = {v.channel: v for v in verdicts if v.channel in (0, 3)}
    first, second = sorted(visits.values(), key=lambda v: v.visit)
    assert not first.kept
    assert second.kept
    assert first.conditional < 0.1 < second.conditional


def test_information_grows_with_what_a_channel_tells(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, 3, 1))
    y = x[:, :, 0] * [0.0, 0.5, 2.0] + rng.normal(size=(1000, 3))
    information = estimated(x, y, small(seed, rows=700, epochs=30))
    single = information.single(ALL)
    assert single.argsort().tolist() == [0, 1, 2]
    # variance 4 of 5, seen at a resolution of 0.3 of the variance
    assert float(single[2]) == pytest.approx(0.5 * np.log(1.3 / (0.2 + 0.3)), rel=0.25)
    assert information.joint(ALL) > float(single.max())


def test_state_read_back_from_its_tensors_gives_the_same_answers(seed):
    x, y = linear_pair(seed)
    settings = small(seed, depth=2)
    first = estimated(x, y, settings)
    state = reconstruction.from_tensors(dict(first.state.tensors()))
    assert state.loss == "squared error"
    assert len(state.networks.weights) == 3
    again = estimated(x, y, settings, state)
    assert torch.equal(again.single(ALL), first.single(ALL))
    assert again.joint(ALL) == first.joint(ALL)
    assert torch.equal(again.eliminate(ALL).samples(2), first.eliminate(ALL).samples(2))


def test_discrete_state_read_back_from_its_tensors_is_still_discrete(seed):
    x, y = linear_pair(seed)
    state = estimated(x, y[:, :1].argmax(1) + (y[:, 1] > 0), small(seed, epochs=1)).state
    assert reconstruction.from_tensors(state.tensors()).loss == state.loss == "cross entropy"


def test_equal_seeds_give_equal_answers_and_others_do_not(seed):
    x, y = linear_pair(seed)
    one, same, other = (estimated(x, y, small(s)) for s in (seed, seed, seed + 1))
    samples = [i.eliminate(ALL).samples(0) for i in (one, same, other)]
    assert torch.equal(samples[0], samples[1])
    assert one.joint(ALL) == same.joint(ALL)
    assert not torch.equal(samples[0], samples[2])
    assert one.joint(ALL) != other.joint(ALL)


def test_repeats_are_independent_estimates(seed):
    information = estimated(*linear_pair(seed), small(seed))
    samples = information.eliminate(ALL).samples(0)
    assert samples.shape == (5,)
    assert len(samples.unique()) == 5


def test_candidates_tried_side_by_side_are_decided_as_one_by_one(seed):
    x, y = linear_pair(seed, channels=6, block=2)
    x = np.concatenate([x, x[:, :2]], 1)
    one, four = (
        walk(estimated(x, y, small(seed, side_by_side=k)), Confidence(95, margin=0.2))
        for k in (1, 4)
    )
    assert 0 < len(kept(one)) < 8
    assert [(v.channel, v.why) for v in four] == [(v.channel, v.why) for v in one]
    assert [v.conditional for v in four] == pytest.approx([v.conditional for v in one], abs=1e-3)


@pytest.mark.parametrize("share", [8, 2, 10**9])
def test_dropped_features_left_out_for_good_change_no_answer(share, seed, monkeypatch):
    x, y = linear_pair(seed, channels=6, block=2)
    state = estimated(x, y, small(seed)).state
    monkeypatch.setattr(masked, "COMPACT", share)
    found = sequence_of_losses(x, y, small(seed), state)
    monkeypatch.setattr(masked, "COMPACT", 0)  # masked for ever
    assert found == pytest.approx(sequence_of_losses(x, y, small(seed), state), abs=1e-4)


def sequence_of_losses(x, y, settings, state):
    """What channels add while others go."""
    elimination = estimated(x, y, settings, state).eliminate(ALL)
    found = [elimination.loss(1)]
    for gone, asked in ((4, 1), (0, 5), (1, 2)):
        elimination.drop(gone)
        found.append(elimination.loss(asked))
    return found


# Some of the targets


def test_targets_not_asked_for_change_nothing(seed):
    x, y = linear_pair(seed)
    information, few = estimated(x, y, small(seed)), torch.tensor([0, 2])
    other = y.copy()
    other[:, 1] = np.random.default_rng(seed + 9).normal(size=len(y))
    changed = estimated(x, other, small(seed), information.state)
    first, second = (i.eliminate(few) for i in (information, changed))
    assert torch.equal(first.samples(3), second.samples(3))
    for elimination in (first, second):
        elimination.drop(3)
    assert torch.equal(first.samples(1), second.samples(1))
    assert not torch.equal(information.eliminate(ALL).samples(3), changed.eliminate(ALL).samples(3))


def test_restricted_targets_match_a_pair_of_those_targets(seed):
    x, y = linear_pair(seed)
    information, few = estimated(x, y, small(seed)), [0, 2]
    state = information.state
    networks = state.networks
    part = dataclasses.replace(
        state,
        networks=Perceptrons(
            (*networks.weights[:-1], networks.weights[-1][..., few]),
            (*networks.biases[:-1], networks.biases[-1][..., few]),
        ),
        joint=state.joint[:, few],
        alone=state.alone[:, few],
        nothing=state.nothing[few],
    )
    alone, both = estimated(x, y[:, few], small(seed), part), torch.arange(2)
    asked = torch.tensor(few)
    torch.testing.assert_close(information.single(asked), alone.single(both))
    assert information.joint(asked) == pytest.approx(alone.joint(both))
    found, expected = information.eliminate(asked), alone.eliminate(both)
    torch.testing.assert_close(found.samples(1), expected.samples(1))


def test_information_of_targets_adds_up(seed):
    information = estimated(*linear_pair(seed), small(seed))
    each = [torch.tensor([target]) for target in range(3)]
    assert information.joint(ALL) == pytest.approx(sum(information.joint(t) for t in each))
    torch.testing.assert_close(information.single(ALL), sum(information.single(t) for t in each))


# Bad input


def test_single_class_is_refused():
    x, _ = linear_pair(0)
    match = r"(?s)'up--down'.*one class only.*at least 2 classes in 600 rows, got class 3 alone"
    with pytest.raises(EstimationError, match=match):
        estimated(x, np.full(600, 3), SMALL)


def test_too_few_rows_are_refused():
    x, y = linear_pair(0, n=49)
    match = r"(?s)'up--down': 49 rows.*5 repeats.*at least 50, got 49; raise Mipp\.rows or images"
    with pytest.raises(EstimationError, match=match):
        estimated(x, y, SMALL)


def test_fewest_rows_are_taken():
    x, y = linear_pair(0, n=50)
    assert np.isfinite(estimated(x, y, SMALL).joint(ALL))


def test_divergence_names_the_pair_the_epoch_and_the_rate():
    match = r"(?s)'up--down'.*diverges at epoch 1\..*below 100, got .*Reconstruction\.lr=.*lower it"
    with pytest.raises(EstimationError, match=match):
        estimated(*linear_pair(0), small(0, lr=1e6))


@pytest.mark.parametrize("lr", [1e6, 1e12], ids=["finite", "not finite"])
def test_divergence_while_training_again_is_refused(lr):
    information = estimated(*linear_pair(0), small(0, retrain_lr=lr))
    with pytest.raises(EstimationError, match=r"(?s)'up--down'.*lower Reconstruction\.retrain_lr"):
        information.eliminate(ALL).samples(0)


def test_constant_targets_have_no_information_and_do_not_diverge(seed):
    x, y = linear_pair(seed)
    assert estimated(x, 0 * y + 3, small(seed)).joint(ALL) == pytest.approx(0, abs=1e-3)


def test_indices_of_rows_lie_where_the_rows_do():
    x, y = torch.empty(60, 3, 2, device="meta"), torch.empty(60, 4, device="meta")
    rows = pair_rows(x, y, ReconstructionSettings(), "up--down")
    everything = (rows.x, rows.y, rows.train, rows.held_out)
    assert {tensor.device.type for tensor in everything} == {"meta"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_reconstruction_on_the_gpu_answers_near_the_cpu():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 3, 1, generator=generator)
    y = x[:, :2, 0] + 0.1 * torch.randn(600, 2, generator=generator)
    settings, every, found = ReconstructionSettings(epochs=20), torch.arange(2), []
    for device in ("cpu", "cuda"):
        rows = pair_rows(x.to(device), y.to(device), settings, "up--down")
        state = reconstruction.prepare(rows, settings)
        answers = ReconstructionInformation(state, lambda rows=rows: rows, settings)
        elimination = answers.eliminate(every)
        found.append([elimination.loss(channel) for channel in range(3)])
    assert found[1] == pytest.approx(found[0], abs=0.1)
