"""Facts about retraining: what the techniques share, where they differ, and where pruning to a target ends."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import data, functional, nn, optim, prune, retrain, train
from minirewind.errors import Error

RECIPE = train.Recipe(16, batch_size=7, rate=0.1, weight_decay=0.01)        # drops at the steps 8 and 12
T = RECIPE.steps
TECHNIQUES = ("fine_tuning", "weight_rewinding", "lr_rewinding", "weight_rewinding_low_lr")


class Net(nn.Module):
    """Convolution (72 weights), batch norm, dropout, two dense layers (20 and 15 weights)."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.fc1 = nn.Linear(4, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x):
        x = self.drop(self.norm.add_relu(self.conv(x)))
        return self.fc2(functional.relu(self.fc1(functional.global_avg_pool2d(x))))


PRUNABLE = 72 + 20 + 15


def dataset():
    random = np.random.default_rng(0)
    splits = []
    for count in (24, 20, 11):
        labels = np.arange(count) % 3
        images = random.standard_normal((count, 2, 6, 6)) + labels[:, None, None, None] - 1
        splits.append(data.Split(images.astype(np.float32), labels))
    return data.Data(*splits, classes=3, pad=1, flip=True)


DATA = dataset()


def run(model, **settings):
    return list(train.train(model, DATA, RECIPE, seed=3, **settings))


@pytest.fixture(scope="module")
def dense():
    """The states of one dense run at every step, from 0 to T."""
    model = Net().initialise(3)
    states = [train.State.copy(model)]
    states += (train.State.copy(model) for _ in train.train(model, DATA, RECIPE, seed=3, report_every=1))
    assert [state.step for state in states] == list(range(T + 1))
    return states


def one_shot(dense, technique, t, density=0.3, **settings):
    """The state after one round of pruning and retraining for t steps, and its records."""
    model = Net().initialise(8)                         # where the model was before does not matter
    technique = getattr(retrain, technique) if isinstance(technique, str) else technique
    records = list(retrain.one_round(model, DATA, RECIPE, dense[T], dense[T - t], technique, density, seed=3,
                                     report_every=1, **settings))
    return train.State.copy(model), records


def fresh():
    return train.State.copy(Net().initialise(3, round=1))


def bits(state):
    return state.step, *(getattr(state, n).tobytes() for n in ("weights", "momentum", "mask", "statistics"))


# ------------------------------------------------------------------------------------------- where each part comes from


@given(st.sampled_from(TECHNIQUES), st.integers(1, T), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_each_technique_starts_as_the_table_says(dense, name, t, seed):
    trained, early = dense[T], dense[T - t]
    mask = np.random.default_rng(seed).random(trained.mask.shape) < 0.5
    early = early.masked(np.random.default_rng(seed + 1).random(mask.shape) < 0.5, early.step)      # never used
    early = dataclasses.replace(early, weights=dense[T - t].weights, momentum=dense[T - t].momentum)
    start, rate, stop = getattr(retrain, name)(trained, early, mask, RECIPE.rates())

    source = early if name.startswith("weight_rewinding") else trained
    assert (start.weights == np.where(mask, source.weights, 0)).all()
    assert (start.momentum == np.where(mask, source.momentum, 0)).all()
    assert (start.statistics == source.statistics).all()
    assert (start.mask == mask).all()
    assert (start.step, stop) == (T - t, T)
    schedule = RECIPE.rates()
    expected = schedule if name in ("weight_rewinding", "lr_rewinding") else optim.constant(schedule(T - 1))
    assert [rate(step) for step in range(T - t, T)] == [expected(step) for step in range(T - t, T)]


def test_the_table_speaks_of_different_things(dense):
    for t in (1, 5, T):
        for part in ("weights", "momentum", "statistics"):
            assert (getattr(dense[T], part) != getattr(dense[T - t], part)).any()


@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize("t", [1, 7, T])
def test_the_retraining_time_is_t_steps_up_to_the_end_of_training(dense, name, t):
    state, records = one_shot(dense, name, t)
    assert [r.step for r in records] == list(range(T - t + 1, T + 1))
    assert state.step == T
    schedule, rewinds = RECIPE.rates(), name in ("weight_rewinding", "lr_rewinding")
    assert [r.rate for r in records] == [schedule(s if rewinds else T - 1) for s in range(T - t, T)]


# ----------------------------------------------------------------------------------------------- the paper's identities


@pytest.mark.parametrize("t", [1, 2, 3, 4])
def test_lr_rewinding_no_further_back_than_the_last_drop_is_fine_tuning(dense, t):
    (rewound, records), (tuned, others) = (one_shot(dense, name, t) for name in ("lr_rewinding", "fine_tuning"))
    assert bits(rewound) == bits(tuned)
    assert [r.loss for r in records] == [r.loss for r in others]


def test_one_step_beyond_the_last_drop_they_differ(dense):
    rewound, tuned = (one_shot(dense, name, 5)[0] for name in ("lr_rewinding", "fine_tuning"))
    assert (rewound.weights != tuned.weights).any()


def test_weight_rewinding_no_further_back_than_the_last_drop_is_its_low_rate_control(dense):
    assert bits(one_shot(dense, "weight_rewinding", 4)[0]) == bits(one_shot(dense, "weight_rewinding_low_lr", 4)[0])
    assert bits(one_shot(dense, "weight_rewinding", 5)[0]) != bits(one_shot(dense, "weight_rewinding_low_lr", 5)[0])


def test_weight_rewinding_to_step_0_is_training_the_masked_initial_network(dense):
    rewound, _ = one_shot(dense, "weight_rewinding", T)
    ticket = Net().initialise(3)
    nn.pack(ticket).set_mask(prune.new_mask(ticket, dense[T], 0.3))
    run(ticket, round=1)
    assert bits(rewound) == bits(train.State.copy(ticket))


def test_at_density_1_weight_rewinding_on_the_dense_stream_is_the_dense_run(dense):
    for t in (1, 6, T):
        assert bits(one_shot(dense, "weight_rewinding", t, density=1, round=0)[0]) == bits(dense[T])


def test_all_one_shot_techniques_share_one_mask_of_the_exact_count(dense):
    masks = [one_shot(dense, name, t)[0].mask for name in TECHNIQUES for t in (3, T)]
    masks.append(one_shot(dense, functools.partial(retrain.reinitialize, fresh=fresh()), 3)[0].mask)
    expected = prune.new_mask(Net(), dense[T], 0.3)
    assert all((mask == expected).all() for mask in masks)
    assert expected[nn.pack(Net()).prunable].sum() == math.floor(0.3 * PRUNABLE + 0.5)


@pytest.mark.parametrize("name", [*TECHNIQUES, "reinitialize"])
def test_pruned_weights_end_at_zero_and_the_states_given_are_never_changed(dense, name):
    new = fresh()
    technique = functools.partial(retrain.reinitialize, fresh=new) if name == "reinitialize" else name
    before = [bits(state) for state in (*dense, new)]
    state, records = one_shot(dense, technique, 9)
    assert [bits(s) for s in (*dense, new)] == before
    assert (state.weights[~state.mask] == 0).all()
    assert (state.momentum[~state.mask] == 0).all()
    assert records[-1].density == math.floor(0.3 * PRUNABLE + 0.5) / PRUNABLE


def test_retraining_twice_gives_the_same_bits_and_another_round_others(dense):
    first = one_shot(dense, "lr_rewinding", 9)[0]
    assert bits(first) == bits(one_shot(dense, "lr_rewinding", 9)[0])
    for other in ({"round": 2}, {"stream": 1}, {"method": functools.partial(prune.random_mask, key=1)}):
        assert bits(first) != bits(one_shot(dense, "lr_rewinding", 9, **other)[0])


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_round_that_was_interrupted_goes_on_to_the_same_bits_and_the_same_sign_flips(dense, name):
    whole, records = one_shot(dense, name, 9)
    model = Net()
    rest = retrain.one_round(model, DATA, RECIPE, dense[T], dense[T - 9], getattr(retrain, name), 0.3, seed=3,
                             report_every=1)
    interrupted = [train.State.copy(model) for _ in itertools.islice(rest, 4)][-1]
    again, more = one_shot(dense, name, 9, resume=interrupted)
    assert bits(again) == bits(whole)
    assert [(r.step, r.loss, r.sign_flips) for r in more] == [(r.step, r.loss, r.sign_flips) for r in records[4:]]
    assert name != "weight_rewinding" or 0 < records[3].sign_flips < records[-1].sign_flips


# -------------------------------------------------------------------------------------------------------- the controls


def test_reinitialize_trains_fresh_weights_for_t_steps_more_than_training(dense):
    new = fresh()
    state, records = one_shot(dense, functools.partial(retrain.reinitialize, fresh=new), 5)
    assert [r.step for r in records] == list(range(1, T + 5 + 1))
    schedule = RECIPE.rates()
    assert [r.rate for r in records] == [schedule(s) for s in range(T)] + [schedule(T - 1)] * 5

    alone = Net().initialise(3, round=1)
    nn.pack(alone).set_mask(state.mask)
    run(alone, round=1, stop=T + 5)
    assert bits(state) == bits(train.State.copy(alone))


def test_reinitialize_needs_a_fresh_state(dense):
    with pytest.raises(TypeError, match="fresh"):
        one_shot(dense, "reinitialize", 5)


def test_the_low_rate_control_rewinds_the_weights_and_keeps_the_last_rate(dense):
    control, records = one_shot(dense, "weight_rewinding_low_lr", T)
    assert {r.rate for r in records} == {0.1 * 0.1**2}
    model = Net().initialise(3)
    nn.pack(model).set_mask(control.mask)
    run(model, round=1, rate=optim.constant(0.1 * 0.1**2))
    assert bits(control) == bits(train.State.copy(model))


# ------------------------------------------------------------------------------------------------------ the follow-ups

FOLLOW_UPS = ("slr", "clr", "llr", "allr")
BASES = st.builds(lambda name, steps: train.Recipe(steps, rate=0.3, schedule=name).rates(),
                  st.sampled_from(sorted(optim.SCHEDULES)), st.just(T))


def followed(name, trained, early, mask, schedule):
    technique = getattr(retrain, name)
    if name == "allr":
        technique = functools.partial(technique, prunable=nn.pack(Net()).prunable)
    return technique(trained, early, mask, schedule)


def random_mask(seed, density=0.5):
    prunable = nn.pack(Net()).prunable
    return (np.random.default_rng(seed).random(prunable.shape) < density) | ~prunable


@given(st.sampled_from(FOLLOW_UPS), BASES, st.integers(1, T), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_follow_up_keeps_the_final_weights_and_has_positive_rates_up_to_the_highest(dense, name, schedule, t, seed):
    trained, mask = dense[T], random_mask(seed)
    start, rate, stop = followed(name, trained, dense[T - t], mask, schedule)
    assert bits(start) == bits(trained.masked(mask, T - t))
    assert stop == T
    rates = [rate(step) for step in range(T - t, T)]
    assert all(0 < r <= max(map(schedule, range(T))) * (1 + 1e-12) for r in rates)
    assert name not in ("llr", "allr") or rate(T) == 0


def long_run(t, schedule="step_decay", steps=1000):
    """A state at the end of a long training, the one t steps before it, and the schedule."""
    state = train.State.copy(Net())
    return (state.masked(state.mask, steps), state.masked(state.mask, steps - t),
            train.Recipe(steps, rate=0.3, schedule=schedule).rates())


@pytest.mark.parametrize("name", FOLLOW_UPS)
@pytest.mark.parametrize("schedule", sorted(optim.SCHEDULES))
def test_over_its_first_tenth_a_follow_up_rises_in_a_straight_line_from_0(name, schedule):
    trained, early, base = long_run(200, schedule)
    _, rate, _ = followed(name, trained, early, random_mask(1), base)
    assert [rate(800 + i) for i in range(20)] == pytest.approx([rate(820) * (i + 1) / 20 for i in range(20)])


def test_slr_is_the_schedule_of_training_at_five_times_its_speed():
    trained, early, schedule = long_run(222)                   # 22 steps of warm-up and 200 of 1,000
    _, rate, _ = retrain.slr(trained, early, trained.mask, schedule)
    assert [rate(778 + 22 + i) for i in range(200)] == [schedule(5 * i) for i in range(200)]


@given(st.integers(1, 1000))
@settings(max_examples=30, deadline=None)
def test_slr_keeps_every_rate_for_its_share_of_the_time(t):
    trained, early, schedule = long_run(t)
    _, rate, _ = retrain.slr(trained, early, trained.mask, schedule)
    rest = [rate(step) for step in range(1000 - t + t // 10, 1000)]
    assert rest == sorted(rest, reverse=True)
    for value, share in ((0.3, 0.5), (0.3 * 0.1, 0.25), (0.3 * 0.1**2, 0.25)):
        assert abs(rest.count(value) - share * len(rest)) <= 1


def test_without_a_step_for_a_warm_up_slr_over_the_whole_training_is_lr_rewinding():
    states = [state.masked(state.mask, step) for state, step in zip([train.State.copy(Net())] * 2, (9, 0))]
    schedule = train.Recipe(9).rates()
    rates = [technique(*states, states[0].mask, schedule)[1] for technique in (retrain.slr, retrain.lr_rewinding)]
    assert [rates[0](step) for step in range(9)] == [rates[1](step) for step in range(9)]


def test_clr_falls_along_half_a_cosine_to_the_last_rate_of_training():
    trained, early, schedule = long_run(200)
    _, rate, _ = retrain.clr(trained, early, trained.mask, schedule)
    assert rate(820) == 0.3
    assert rate(999) == pytest.approx(schedule(999))
    middle = (rate(820 + 89) + rate(820 + 90)) / 2
    assert middle == pytest.approx((0.3 + schedule(999)) / 2)


def test_clr_ends_at_the_last_rate_of_a_schedule_that_falls_to_its_end():
    trained, early, schedule = long_run(200, "linear")
    _, rate, _ = retrain.clr(trained, early, trained.mask, schedule)
    assert rate(999) == pytest.approx(schedule(999), rel=1e-6)


def test_llr_falls_in_a_straight_line_to_0_at_the_last_step():
    trained, early, schedule = long_run(200)
    _, rate, _ = retrain.llr(trained, early, trained.mask, schedule)
    assert [rate(820 + i) for i in range(181)] == pytest.approx([0.3 * (1 - i / 180) for i in range(181)])


def test_the_highest_rate_is_that_of_training_wherever_it_stands():
    trained, early, schedule = long_run(200, "one_cycle")      # its first rate is a hundredth
    for name in ("clr", "llr"):
        assert followed(name, trained, early, trained.mask, schedule)[1](820) == pytest.approx(0.3)


def test_allr_begins_where_the_damage_or_the_time_left_puts_it():
    trained, early, schedule = long_run(200)
    prunable = nn.pack(Net()).prunable
    top = {}
    for name, weights in (("equal", np.ones(prunable.shape)), ("small", np.where(random_mask(5), 1, 0.4)),
                          ("tiny", np.where(random_mask(5), 1, 1e-6))):
        state = dataclasses.replace(trained, weights=weights.astype(np.float32))
        top[name] = retrain.allr(state, early, random_mask(5), schedule, prunable=prunable)[1](820)
    assert top["equal"] == pytest.approx(0.3)                  # magnitudes that say nothing: as much as by lot
    kept = random_mask(5)[prunable].mean()
    assert top["small"] == pytest.approx(0.3 * 0.4 / math.sqrt(kept + 0.16 * (1 - kept)))
    assert top["tiny"] == pytest.approx(0.3 * 200 / 1000)      # t / T


@given(st.integers(0, 99), st.floats(0.02, 0.98), st.floats(0.1, 1))
@settings(max_examples=40, deadline=None)
def test_magnitude_pruning_does_less_damage_than_pruning_by_lot_would(seed, density, before):
    prunable, random = nn.pack(Net()).prunable, np.random.default_rng(seed)
    state = train.State.copy(Net())
    alive = (random.random(prunable.shape) < before) | ~prunable
    state = dataclasses.replace(state, weights=random.standard_normal(prunable.shape), mask=alive).masked(alive, T)
    keep = prune.keep_count(int(alive[prunable].sum()), density)
    mask = alive.copy()
    mask[prunable] = prune.global_magnitude(state.weights[prunable], alive[prunable], keep)
    worst = alive.copy()
    worst[prunable] = alive[prunable] & ~prune.global_magnitude(state.weights[prunable], alive[prunable],
                                                                int(alive[prunable].sum()) - keep)
    least, most = (retrain.damage(state, m, prunable) for m in (mask, worst))
    assert 0 <= least <= 1
    assert most == 1 or (worst == alive).all()
    assert retrain.damage(state, alive, prunable) == 0


@pytest.mark.parametrize("name", FOLLOW_UPS)
def test_a_follow_up_retrains_for_t_steps_like_the_others(dense, name):
    technique = functools.partial(followed, name)
    state, records = one_shot(dense, technique, 11)
    assert [r.step for r in records] == list(range(T - 10, T + 1))
    assert state.mask[nn.pack(Net()).prunable].sum() == math.floor(0.3 * PRUNABLE + 0.5)
    assert (state.weights[~state.mask] == 0).all()


# ---------------------------------------------------------------------------------------------------------- many rounds


@pytest.mark.parametrize("name", TECHNIQUES)
def test_iterative_rounds_shrink_one_mask_by_exact_counts(dense, name):
    model, trained = Net(), dense[T]
    for i in range(1, 6):
        before = trained.mask
        list(retrain.one_round(model, DATA, RECIPE, trained, dense[T - 6], getattr(retrain, name), 0.8**i,
                               seed=3, round=i))
        trained = train.State.copy(model)
        assert trained.step == T
        assert not (trained.mask & ~before).any()
        assert trained.mask[nn.pack(model).prunable].sum() == math.floor(0.8**i * PRUNABLE + 0.5)


def test_each_round_of_weight_rewinding_goes_back_to_the_dense_run(dense):
    model = Net()
    list(retrain.one_round(model, DATA, RECIPE, dense[T], dense[4], retrain.weight_rewinding, 0.8, seed=3))
    second = train.State.copy(model)
    mask = prune.new_mask(model, second, 0.64)
    list(retrain.one_round(model, DATA, RECIPE, second, dense[4], retrain.weight_rewinding, 0.64, seed=3, round=2))
    expected = Net()
    run(expected, start=dense[4].masked(mask, 4), round=2)
    assert bits(train.State.copy(model)) == bits(train.State.copy(expected))


@pytest.mark.parametrize(("early", "message"), [(T, f"trained is at step T = {T}, early at step T - t = {T}"),
                                                (T + 3, "must be 1 to T"), (-1, "must be 1 to T")])
def test_a_retraining_time_of_none_or_more_than_training_is_refused(dense, early, message):
    model = Net()
    state = dense[0].masked(dense[0].mask, early)
    with pytest.raises(Error, match=message):
        list(retrain.one_round(model, DATA, RECIPE, dense[T], state, retrain.fine_tuning, 0.5, seed=3))
    assert nn.pack(model).mask.all()


def test_bad_densities_and_states_of_other_networks_are_refused(dense):
    with pytest.raises(Error, match=r"not in \(0, 1\]"):
        one_shot(dense, "lr_rewinding", 3, density=1.5)
    pruned = one_shot(dense, "lr_rewinding", 3)[0]
    with pytest.raises(Error, match="masks only shrink"):
        list(retrain.one_round(Net(), DATA, RECIPE, pruned, dense[3], retrain.lr_rewinding, 0.5, seed=3))
    other = train.State.copy(nn.Sequential(nn.Linear(3, 3)))
    for trained, early in ((dataclasses.replace(other, step=T), dense[3]), (dense[T], other)):
        with pytest.raises(Error, match=r"another network|expected bool"):
            list(retrain.one_round(Net(), DATA, RECIPE, trained, early, retrain.weight_rewinding, 0.5, seed=3))


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_iterative_pruning_is_a_chain_of_rounds_each_on_what_the_one_before_left(dense, technique):
    technique, densities = getattr(retrain, technique), (0.8, 0.5, 0.3)
    model, by_hand, trained = Net(), Net(), dense[T]
    records = list(retrain.iterative(model, DATA, RECIPE, dense[T], dense[3], technique, densities, seed=3))
    for i, density in enumerate(densities, 1):
        list(retrain.one_round(by_hand, DATA, RECIPE, trained, dense[3], technique, density, seed=3, round=i))
        trained = train.State.copy(by_hand)
    assert bits(train.State.copy(model)) == bits(trained)
    assert [r.density for r in records] == [pytest.approx(density, abs=0.5 / PRUNABLE) for density in densities]


# ---------------------------------------------------------------------------------------------------- prune to a target


@given(st.floats(1e-4, 1))
def test_targets_take_weights_away_and_leave_one_for_each_layer(density):
    counts = [prune.keep_count(PRUNABLE, target) for target in retrain.targets(Net(), density)]
    assert all(a > b >= 3 for a, b in itertools.pairwise([PRUNABLE, *counts]))


@given(st.floats(1e-4, 0.999999))
def test_targets_fall_by_a_fifth_and_end_exactly_at_the_density(density):
    targets = list(retrain.densities_to(density))
    assert targets[:-1] == [0.8**i for i in range(1, len(targets))]
    assert targets[-1] == density
    assert all(a > b for a, b in itertools.pairwise([1, *targets]))
    assert len(targets) == prune.rounds_to(density)


SHORT = train.Recipe(4, batch_size=7, rate=0.1)


def accuracies(monkeypatch, *values):
    """evaluate() gives these, one after the other."""
    script = iter(values)
    monkeypatch.setattr(train, "evaluate", lambda model, split: next(script))


def rounds(history):
    """The densities of the records that a round ended with."""
    return [r.density for r in history if r.validation_accuracy is not None]


def kept(i):
    return math.floor(0.8**i * PRUNABLE + 0.5) / PRUNABLE


def test_pruning_to_a_density_ends_there_exactly_and_is_lr_rewinding_to_step_0():
    model = Net().initialise(3)
    state, history = retrain.prune_to_target(model, DATA, RECIPE, seed=3, density=0.45)
    assert rounds(history) == [1, kept(1), kept(2), kept(3), math.floor(0.45 * PRUNABLE + 0.5) / PRUNABLE]
    assert [r.step for r in history] == [T] * 5
    assert history[-1].validation_accuracy == train.evaluate(model, DATA.validation)
    assert bits(state) == bits(train.State.copy(model))

    by_hand = Net().initialise(3)
    beginning = train.State.copy(by_hand)
    run(by_hand)
    for i, density in enumerate((0.8, 0.64, 0.8**3, 0.45), 1):
        list(retrain.one_round(by_hand, DATA, RECIPE, train.State.copy(by_hand), beginning, retrain.lr_rewinding,
                               density, seed=3, round=i))
    assert bits(state) == bits(train.State.copy(by_hand))


def test_a_maximal_drop_ends_before_the_first_round_outside(monkeypatch):
    accuracies(monkeypatch, 90, 89.5, 88.0, 88.0, 87.9, 90)
    model = Net().initialise(3)
    state, history = retrain.prune_to_target(model, DATA, SHORT, max_drop=2)
    assert [r.validation_accuracy for r in history] == [90, 89.5, 88.0, 88.0, 87.9]
    assert rounds(history) == [1, kept(1), kept(2), kept(3), kept(4)]
    assert prune.density(state.mask, nn.pack(model).prunable) == kept(3)
    assert bits(state) == bits(train.State.copy(model))


@pytest.mark.parametrize(("scores", "density"), [((90, 90, 90, 90), 0.6), ((90, 90, 80), kept(1))])
def test_with_density_and_maximal_drop_whichever_comes_first_ends_it(monkeypatch, scores, density):
    accuracies(monkeypatch, *scores)
    model = Net().initialise(3)
    state, _ = retrain.prune_to_target(model, DATA, SHORT, density=0.6, max_drop=1)
    assert prune.density(state.mask, nn.pack(model).prunable) == pytest.approx(density, abs=0.5 / PRUNABLE)


def test_the_same_as_a_generator_leaves_the_model_and_gives_the_records_of_the_call():
    called, generated = Net().initialise(3), Net().initialise(3)
    state, history = retrain.prune_to_target(called, DATA, SHORT, density=0.7)
    records = list(retrain.pruning_to_target(generated, DATA, SHORT, density=0.7))
    assert bits(train.State.copy(generated)) == bits(state)
    assert [dataclasses.replace(r, seconds=0) for r in records] == [dataclasses.replace(r, seconds=0) for r in history]


def test_if_the_first_round_is_outside_the_model_is_left_dense_with_a_warning(monkeypatch):
    accuracies(monkeypatch, 90, 70)
    model, dense = Net().initialise(3), Net().initialise(3)
    with pytest.warns(UserWarning, match=r"costs 20\.00 points, more than max_drop = 5: the model is left dense"):
        state, history = retrain.prune_to_target(model, DATA, SHORT, max_drop=5)
    assert rounds(history) == [1, kept(1)]
    list(train.train(dense, DATA, SHORT, seed=0))
    assert bits(state) == bits(train.State.copy(model)) == bits(train.State.copy(dense))


def test_pruning_stops_where_fewer_weights_than_layers_would_be_left():
    model = Net().initialise(3)
    tiny = train.Recipe(1, batch_size=7, rate=0.01)
    for end in ({"density": 1e-4}, {"max_drop": 100}):
        state, _ = retrain.prune_to_target(model.initialise(3), DATA, tiny, **end)
        left = int(state.mask[nn.pack(model).prunable].sum())
        i = next(i for i in itertools.count(1) if math.floor(0.8**i * PRUNABLE + 0.5) < 3)
        assert left == math.floor(0.8 ** (i - 1) * PRUNABLE + 0.5) >= 3


def test_a_trained_model_is_not_trained_again():
    trained, untrained = Net().initialise(3), Net().initialise(3)
    list(train.train(trained, DATA, SHORT, seed=0))
    first, history = retrain.prune_to_target(trained, DATA, SHORT, density=0.7)
    assert [r.density for r in history] == [kept(1), math.floor(0.7 * PRUNABLE + 0.5) / PRUNABLE]
    assert bits(first) == bits(retrain.prune_to_target(untrained, DATA, SHORT, density=0.7)[0])


def test_density_1_is_the_dense_training():
    model = Net().initialise(3)
    state, history = retrain.prune_to_target(model, DATA, SHORT, density=1)
    assert [r.step for r in history] == [4]
    assert state.mask.all()


def test_without_a_recipe_it_is_the_default_one_for_the_data():
    history = retrain.prune_to_target(Net(), DATA, density=1)[1]
    assert history[-1].step == train.default_recipe(DATA).steps == 11


@pytest.mark.parametrize(("end", "message"), [
    ({}, "needs an end: density=0.1, max_drop=1.0"), ({"density": 0}, r"not in \(0, 1\]"),
    ({"density": 10}, r"not in \(0, 1\]"), ({"density": math.nan}, r"not in \(0, 1\]"),
    ({"max_drop": -1}, "0 or more"), ({"max_drop": math.nan}, "0 or more"), ({"density": 2, "max_drop": 1}, "not in"),
])
def test_a_target_without_meaning_is_refused_before_any_training(end, message):
    model = Net().initialise(3)
    before = train.State.copy(model)
    with pytest.raises(Error, match=message):
        retrain.prune_to_target(model, DATA, SHORT, **end)
    assert bits(train.State.copy(model)) == bits(before)


def test_what_cannot_be_pruned_is_refused_before_any_training():
    class Own(nn.Module):
        def __init__(self):
            self.table = nn.Parameter(np.ones((72, 3), np.float32))

        def forward(self, x):
            return x.flatten(1) @ self.table

    pruned = Net().initialise(3)
    nn.pack(pruned).set_mask(prune.new_mask(pruned, train.State.copy(pruned), 0.5))
    for model, message in ((Own(), "nothing to prune"), (pruned, "begins with a dense network")):
        with pytest.raises(Error, match=message):
            retrain.prune_to_target(model, DATA, SHORT, density=0.3)
        assert nn.pack(model).step == 0


def test_a_users_own_module_is_pruned_to_a_target():
    class Own(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(72, 6), nn.Linear(6, 3)]
            self.scale = nn.Parameter(np.ones(72, np.float32))

        def forward(self, x):
            return self.layers[1](functional.relu(self.layers[0](x.flatten(1) * self.scale)))

    model = Own().initialise(0)
    state, history = retrain.prune_to_target(model, DATA, train.Recipe(30, 8, 0.05), density=0.5)
    assert int(state.mask.sum()) == 225 + 72 + 9
    assert history[-1].validation_accuracy > 60


def test_one_layer_ends_when_no_weight_can_be_taken_any_more():
    class One(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x.flatten(1))

    random = np.random.default_rng(0)
    part = data.Split(random.normal(size=(16, 1, 2, 2)).astype(np.float32), random.integers(0, 2, 16))
    state, _ = retrain.prune_to_target(One(), data.Data(part, part, part, 2), train.Recipe(2, 4), max_drop=100)
    assert 1 <= state.mask[:8].sum() < 8
