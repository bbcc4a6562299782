"""Lesson 10: what must hold of a round, of a chain of rounds, and of its end, and the wrong answers that are known."""

import contextlib
import dataclasses

import numpy as np

from minirewind import nn, prune, retrain, train
from minirewind.learn import Exercise
from minirewind.train import Recipe, Record, State

RECIPE = Recipe(steps=8, batch_size=4, rate=0.1)


def network():
    """Ten weights 1 to 10 and two biases, and its dense state at step 8; the model itself is in another state."""
    model = nn.Sequential(nn.Linear(5, 2))
    v = nn.pack(model)
    v.weights[...] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    v.step = 8
    trained = State.copy(model)
    v.weights[...] = v.weights[::-1].copy()
    return model, trained


def at(state, step, weights):
    """A state like another one, at another step and with other weights."""
    return State(step, np.array(weights, np.float32), state.momentum * 0, state.mask.copy(), state.statistics.copy())


@contextlib.contextmanager
def instead(module, **functions):
    """Inside, the module's functions are others."""
    before = {name: getattr(module, name) for name in functions}
    for name, function in functions.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


# ----------------------------------------------------------------------------------------------- retrain.round_settings

settings = Exercise("retrain.round_settings", hints=(
    "Three things happen before training starts. Who says which weights stay? Who says where to start, at which rates\n"
    "and up to which step?",
    "The mask is prune.new_mask(model, trained, density, method). The technique is called with both states, the mask\n"
    "and recipe.rates(), and gives start, rate and stop.",
    """
    mask = prune.new_mask(...)
    start, rate, stop = technique(...)
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
    """))


def asked(density=0.5, method=None, resume=None):
    """What the function returns, and what the technique was called with."""
    model, trained = network()
    early = at(trained, 3, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    calls = []

    def technique(trained, early, mask, schedule):
        calls.append((trained, early, mask, schedule))
        return starts, schedule, 11             # a technique may stop later than training did

    starts = at(trained, 3, [1] * 12)           # neither of the two states: a technique makes a new one
    got = retrain.round_settings(model, RECIPE, trained, early, technique, density, method, resume)
    assert got is not None, "nothing came back: return the dictionary"
    assert isinstance(got, dict), f"expected a dictionary of what train needs to know, yours is {type(got).__name__}"
    assert len(calls) == 1, f"the technique must be asked once how to retrain; you asked it {len(calls)} times"
    assert set(got) == {"start", "stop", "rate", "compare_to"}, (
        f"expected the keys start, stop, rate and compare_to, yours are {', '.join(got)}")
    return got, calls[0], trained, early, starts


def kept(mask):
    """Which of the ten weights a mask keeps."""
    return np.flatnonzero(np.asarray(mask)[:10]).tolist()


@settings.check
def test_the_weights_at_the_end_of_training_are_ranked():
    _, (_, _, mask, _), *_ = asked()
    assert kept(mask) != [0, 1, 2, 3, 4], (
        "you ranked the wrong weights: those of `early`, or those that happen to be in the model. What counts is what "
        "the latest training ended in: new_mask(model, trained, ...)")
    assert kept(mask) == [5, 6, 7, 8, 9], (
        f"of weights 1 to 10 the five largest stay, 6 to 10; you keep {[place + 1 for place in kept(mask)]}. (new_mask "
        f"counts and prunes only what can be pruned)")
    assert mask[10:].all(), "the two biases cannot be pruned, and in your mask they are"


@settings.check
def test_the_density_is_that_of_the_dense_network():
    model, trained = network()
    before = trained.masked(np.array([False] * 2 + [True] * 10), 8)         # eight of ten are left
    seen = []

    def technique(trained, early, mask, schedule):
        seen.append(mask)
        return early, schedule, 8

    retrain.round_settings(model, RECIPE, before, at(trained, 3, trained.weights), technique, 0.5)
    assert len(kept(seen[0])) != 4, (
        "eight weights were left, the density asked for is 0.5, and you keep 4: half of what is LEFT. A density is "
        "always counted against the dense network, half of ten")
    retrain.round_settings(model, RECIPE, trained, at(trained, 3, trained.weights), technique, 0.8)
    assert len(kept(seen[1])) != 2, (
        "0.8 is what STAYS, eight of ten, and your mask keeps two: a density is not the share that is taken away")
    assert len(kept(seen[1])) == 8, f"a density of 0.8 of ten weights is 8, you keep {len(kept(seen[1]))}"
    assert len(kept(seen[0])) == 5, f"a density of 0.5 of ten weights is 5, you keep {len(kept(seen[0]))}"


@settings.check
def test_the_technique_is_asked_with_everything_it_needs():
    got, (its_trained, its_early, _, schedule), trained, early, starts = asked()
    assert its_early is early, "the technique must be handed the state `early`, as it is"
    assert its_trained is trained, "the technique must be handed the state `trained`, as it is"
    assert callable(schedule), f"a technique wants the schedule, a function of the step: recipe.rates(), not {schedule}"
    assert schedule != RECIPE.rates, (
        "recipe.rates makes the schedule, but only when it is called: recipe.rates(), with brackets")
    rates = RECIPE.rates()
    assert [schedule(step) for step in range(8)] == [rates(step) for step in range(8)], (
        "the schedule that the technique gets must be the recipe's, from step 0 on: recipe.rates(). Whether it goes "
        "back, and how far, is the technique's own affair")
    assert got["start"] is not early, "you start in `early`; the technique said where to start, in its first result"
    assert got["start"] is not None, (
        "your start is None: so is `resume`, as long as nothing was interrupted. `resume or start` is then the start")
    assert got["stop"] != RECIPE.steps, (
        "you stop at recipe.steps. Where to stop is the technique's to say, in its third result: there is one that "
        "trains longer")
    assert (got["start"], got["rate"], got["stop"]) == (starts, schedule, 11), (
        "the technique said where to start, at which rates and where to stop, in this order, and you return something "
        "else")


@settings.check
def test_another_method_and_an_interrupted_round_are_heeded():
    _, (_, _, mask, _), *_ = asked(method=lambda weights, mask, keep: prune.largest(-abs(weights), keep))
    assert kept(mask) == [0, 1, 2, 3, 4], "another method was given, which keeps the smallest weights; yours ignores it"
    _, trained = network()
    middle = at(trained, 5, trained.weights)
    got, *_, starts = asked(resume=middle)
    assert got["start"] is middle, "the round was interrupted, `resume` says where: training must start there again"
    assert got["compare_to"] is starts, (
        "compare_to must be the state that the technique wanted to start in, even if the round goes on from the middle")


settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, early, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="you ranked the wrong weights")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    left = prune.density(trained.mask, nn.pack(model).prunable)
    mask = prune.new_mask(model, trained, left * density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="half of what is LEFT")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rate)
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="wants the schedule, a function of the step")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, 1 - density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="not the share that is taken away")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": early}
""", says="even if the round goes on from the middle")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    _, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or early, "stop": stop, "rate": rate, "compare_to": early}
""", says="you start in `early`")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="yours ignores it")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": start, "stop": stop, "rate": rate, "compare_to": start}
""", says="training must start there again")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, _ = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": recipe.steps, "rate": rate, "compare_to": start}
""", says="there is one that trains longer")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates)
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="only when it is called")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume, "stop": stop, "rate": rate, "compare_to": start}
""", says="as long as nothing was interrupted")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    keep = prune.keep_count(len(trained.weights), density)
    mask = prune.global_magnitude(trained.weights, trained.mask, keep)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="prunes only what can be pruned")
settings.wrong("""
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    mask = prune.new_mask(model, trained, density, method)
    start, stop, rate = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}
""", says="in this order")


# ---------------------------------------------------------------------------------------------------- retrain.iterative

chain = Exercise("retrain.iterative", hints=(
    "What does the second round prune: the dense network, or what the first round has left? Where is that, after the\n"
    "first round?",
    "A loop over the densities, counted from 1 (enumerate). In it: hand on the records of one_round (yield from), and\n"
    "when they are over, the model is in the state that the next round begins with.",
    """
    for round, density in enumerate(densities, 1):
        yield from one_round(..., seed=seed, round=round)
        trained = ...
    """))

DENSITIES = [0.8, 0.64, 0.5]


def record(step, density):
    """A record of a run."""
    return Record(step, 0.5, 0.1, density, {}, (), 0.0, 0.0)


def chained():
    """The calls of one_round that the function makes, the records it hands on, and how much training had added to the
    weights when each of them came. A round adds 100 to the weights, half of it after its first record is out.
    """
    model, trained = network()
    early = at(trained, 3, [0] * 12)
    calls = []

    def one_round(model, data, recipe, trained, early, technique, density, *, seed, round=1, **more):
        assert isinstance(trained, State), (
            f"a round begins with a State, and you handed it a {type(trained).__name__}. The model itself goes on "
            f"changing: State.copy(model)")
        calls.append({"weights": trained.weights.copy(), "early": early, "technique": technique, "density": density,
                      "seed": seed, "round": round, "data": data, "recipe": recipe})
        trained.restore(model)
        for step in (4, 8):
            nn.pack(model).weights[...] += 50
            yield record(step, density)

    with instead(retrain, one_round=one_round):
        try:
            made = retrain.iterative(model, "data", RECIPE, trained, early, "technique", iter(DENSITIES), seed=7)
            assert made is not None, "nothing came back: hand the records on, with `yield from one_round(...)`"
            handed_on(made, calls)
            came = [(record, nn.pack(model).weights[0] - trained.weights[0]) for record in made]
        except TypeError as reason:
            if "list_iterator" not in str(reason):
                raise
            raise AssertionError("`densities` need not be a list: whatever can be looped over once will do, and it may "
                                 "have no length. `for round, density in enumerate(densities, 1)`") from reason
    assert calls, "no round was trained: one_round is a generator, and trains only while its records are asked for"
    records, training = zip(*came)
    return calls, list(records), list(training), trained, early


def handed_on(made, calls):
    """The records come one by one, not in a list when all is over."""
    if isinstance(made, (list, tuple)):
        assert not calls, (
            "you collected the records in a list: all the rounds are over before the first record comes out. Whoever "
            "asks for a record wants to look at the model as it is THEN: hand each on at once, with `yield from`")


@chain.check
def test_each_round_prunes_what_the_round_before_has_left():
    calls, _, _, trained, _ = chained()
    begins = [call["weights"][0] - trained.weights[0] for call in calls]
    assert len(calls) == 3, f"three densities were given, so there are three rounds; yours are {len(calls)}"
    assert begins != [0, 0, 0], (
        "every round began with the dense network: that is not iterative, it is one cut, three times. After a round, "
        "`trained` must become the state it has left: State.copy(model)")
    assert begins[0] == 0, (
        "your first round does not begin with the state `trained` that was handed to you, but with what the model "
        "happens to hold. State.copy(model) is the next round's, so it comes AFTER the round")
    assert begins == [0, 100, 200], (
        "a round must begin with what the one before ended in, after its LAST record; yours began elsewhere")


@chain.check
def test_densities_seed_and_rounds_are_handed_on():
    calls, _, _, _, early = chained()
    given = [round(float(call["density"]), 4) for call in calls]
    assert given != [0.8, 0.512, 0.256], (
        "you multiplied the densities: 0.8, then 0.64 of that. They are shares of the dense network already: 0.64 "
        "after the second round means 0.64 of all")
    assert given != [0.2, 0.36, 0.5], "you asked for what is taken AWAY, 0.2; a density is what is left, 0.8"
    assert given != [0.8, 0.64, 0.512], (
        "you asked for powers of 0.8, whatever was given. Somebody may want other steps: take the `densities`, in turn")
    assert given == DENSITIES, f"the densities after the rounds are 0.8, 0.64, 0.5; you asked for {given}"
    numbers = [call["round"] for call in calls]
    assert numbers != [1, 1, 1], (
        "every round says that it is round 1, so every round sees the same images in the same order: round=round")
    assert numbers != [0, 1, 2], "you count rounds from 0, but round 0 is the dense training: enumerate(densities, 1)"
    assert numbers == [1, 2, 3], f"the rounds are number 1, 2, 3; yours {numbers}"
    assert all(call["seed"] == 7 for call in calls), "the seed that was given, 7, must be handed on to each round"
    assert all(call["technique"] == "technique" for call in calls), "each round uses the technique that was given"
    assert all(call["early"] is early for call in calls), (
        "`early` is a state of the DENSE run, in every round: yours was another one from the second round on")


@chain.check
def test_all_records_come_through():
    _, records, training, _, _ = chained()
    assert len(records) != 3, "each round gave two records, and you handed on one of each: `yield from` hands on all"
    assert [(r.step, r.density) for r in records] == [(step, density) for density in DENSITIES for step in (4, 8)], (
        f"three rounds gave two records each, six in all, in their order; {len(records)} came through")
    assert training == [50, 100, 150, 200, 250, 300], (
        "you held the records back until the round was over. Whoever asks for the first one wants to look at the model "
        "as it is THEN, in the middle of the round, and finds it at the end: hand each on as it comes")


chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
""", says="one cut, three times")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    records = []
    for round, density in enumerate(densities, 1):
        records += one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = State.copy(model)
    return records
""", says="hand each on at once")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        yield from one_round(model, data, recipe, trained, early, technique, 0.8**round, seed=seed, round=round)
        trained = State.copy(model)
""", says="Somebody may want other steps")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    share = 1
    for round, density in enumerate(densities, 1):
        share *= density
        yield from one_round(model, data, recipe, trained, early, technique, share, seed=seed, round=round)
        trained = State.copy(model)
""", says="you multiplied the densities")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for density in densities:
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed)
        trained = State.copy(model)
""", says="says that it is round 1")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = early = State.copy(model)
""", says="a state of the DENSE run")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        records = one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        yield next(records)
        trained = State.copy(model)
""", says="after its LAST record")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = State.copy(model)
    return []
""", says="trains only while its records are asked for")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for i in range(len(densities)):
        yield from one_round(model, data, recipe, trained, early, technique, densities[i], seed=seed, round=i + 1)
        trained = State.copy(model)
""", says="it may have no length")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        trained = State.copy(model)
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
""", says="so it comes AFTER the round")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        records = list(one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round))
        trained = State.copy(model)
        yield from records
""", says="you held the records back")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        for record in one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round):
            pass
        yield record
        trained = State.copy(model)
""", says="`yield from` hands on all")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities, 1):
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = model
""", says="The model itself goes on changing")
chain.wrong("""
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    for round, density in enumerate(densities):
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = State.copy(model)
""", says="you count rounds from 0")


# ------------------------------------------------------------------------------------------------ retrain.rounds_inside

inside = Exercise("retrain.rounds_inside", hints=(
    "When a round turns out to be too bad, where is the network that you want to hand back? And with whom do you\n"
    "compare the accuracy: with the round before, or with the dense network?",
    "Keep a state `inside` in your hand, at first the dense one. At the end of a round measure; if it is bad, break,\n"
    "else make `inside` the state of now. After the loop put the model into `inside`, however the loop ended.",
    """
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step == recipe.steps:
            accuracy = train.evaluate(model, ...)
            yield dataclasses.replace(record, validation_accuracy=accuracy)
            if max_drop is not None and ... > max_drop:
                break
            inside = ...
        else:
            yield record
    inside.restore(model)
    """))


class Images:
    """Stands for a data set, to see which of its parts is looked at."""

    train, validation, test = "train", "validation", "test"


def searched(accuracies, max_drop, dense=90.0):
    """Rounds with these validation accuracies: the records, the weight that is left in the model, how many ran."""
    model, trained = network()
    trained.restore(model)
    ran, asked, calls = [], [], []

    def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
        calls.append((early, technique, seed))
        for round, density in enumerate(densities, 1):
            ran.append(round)
            for step in (4, 8):
                nn.pack(model).weights[...] = 10 * round + step
                yield record(step, density)

    def evaluate(model, split, *more):
        assert ran, "you measured before the first round. The dense network's accuracy is handed to you, dense_accuracy"
        assert asked or len(ran) == 1 or len(accuracies) == 1, (
            "all the rounds were over before you measured the first: a list(...) asks for every record at once. Loop "
            "over iterative(...) itself, which trains only as far as it is asked")
        asked.append(split)
        return accuracies[len(ran) - 1]

    with instead(retrain, iterative=iterative), instead(train, evaluate=evaluate):
        made = retrain.rounds_inside(model, Images, RECIPE, dense, [0.9 ** (i + 1) for i in range(len(accuracies))],
                                     max_drop, seed=7)
        assert made is not None, "nothing came back: hand the records on, with `yield record`"
        handed_on(made, calls)
        try:
            records = list(made)
        except dataclasses.FrozenInstanceError as reason:
            raise AssertionError("a record is never changed, and Python would not let you. Make a new one: "
                                 "dataclasses.replace(record, validation_accuracy=accuracy)") from reason
    assert calls, "the rounds are to be made by iterative(...), as you wrote it in exercise 2"
    return records, nn.pack(model).weights[0], len(ran), asked, calls[0]


@inside.check
def test_it_stops_at_the_first_round_outside_and_hands_back_the_last_one_inside():
    records, left, ran, asked, _ = searched([89.5, 89.0, 80.0, 90.0], 2)
    assert ran != 4, (
        "the third round lost ten points, two were allowed, and you went on with the fourth. What is lost is "
        "dense_accuracy - accuracy, that way round, and the loop ends with break")
    assert len(asked) <= ran, (
        f"you measured {len(asked)} times in {ran} rounds, in the middle of a round as well. A round is judged where "
        f"it ends, at record.step == recipe.steps; every other record is handed on as it is")
    assert ran == 3, f"the third round is the first outside, so three rounds are trained; yours are {ran}"
    assert left != 38, (
        "the model is left in the state of the third round, which is OUTSIDE: ten points lost. Put it back into the "
        "last state that was inside: inside.restore(model)")
    assert left != 1, (
        "the model is left dense, but two rounds were inside: remember each of them, inside = State.copy(model)")
    assert left == 28, "the model must be left in the state that the second round ended in, the last one inside"
    assert len(records) not in (8, 9), (
        "the last record of a round came through twice, once with the accuracy and once without: `yield` one of them")
    assert len(records) == 6, (
        f"three rounds with two records each, the bad one too: six records come through; yours are {len(records)}")


@inside.check
def test_it_is_the_dense_network_that_a_round_is_compared_with():
    _, left, ran, _, _ = searched([89.2, 88.4, 87.6, 86.8], 1)
    assert ran != 4, (
        "each round lost 0.8 points, one was allowed, and you let all four pass: 3.2 points! You compare a round with "
        "the round before. Compare with dense_accuracy: that is how one boils a frog")
    assert ran == 2, f"after two rounds 1.6 points are lost, and one was allowed: stop there; you trained {ran}"
    assert left == 18, "the model must be left in the state that the first round ended in"
    _, _, ran, _, _ = searched([95.0, 92.0, 91.0], 2)
    assert ran != 1, (
        "a round BETTER than the dense network, by five points, made you stop. Nothing was lost: do not take abs()")
    assert ran == 3, (
        "95, 92, 91: all three are better than the dense network's 90, and you stopped. The best round so far is not "
        "the measure: dense_accuracy is, and it stays as it is")


@inside.check
def test_exactly_so_much_may_be_lost_and_none_means_never():
    _, _, ran, _, _ = searched([88.0, 88.0], 2)
    assert ran == 2, ("90 and then 88: that is two points, not MORE than two, so the round is inside. (Points are "
                      "the difference itself, no share of dense_accuracy)")
    _, _, ran, _, _ = searched([89.5, 89.0], 0)
    assert ran == 1, (
        "max_drop is 0: nothing may be lost, and you went on after half a point. In Python 0 counts as False: ask "
        "`max_drop is not None`")
    try:
        _, left, ran, _, _ = searched([10.0, 10.0, 10.0], None)
    except TypeError as reason:
        raise AssertionError("max_drop is None, and None cannot be compared with a number. It means that no loss is "
                             "too large: ask first whether max_drop is not None") from reason
    assert ran == 3, "max_drop is None: no loss is too large, all rounds are made"
    assert left == 38, "max_drop is None: the model is left in the state of the last round"


@inside.check
def test_it_chooses_by_validation_images_at_the_end_of_each_round():
    records, _, _, asked, _ = searched([89.5, 89.0], 2)
    assert "test" not in asked, (
        "you looked at the TEST images to decide where to stop. Then they are no test any more: what you choose with "
        "must not be what you report. data.validation is for choosing")
    assert len(asked) == 2, f"measure once a round, at its end (record.step == recipe.steps); not {len(asked)} times"
    assert set(asked) == {"validation"}, f"the images for choosing are data.validation; you looked at {set(asked)}"
    assert [r.validation_accuracy for r in records] == [None, 89.5, None, 89.0], (
        "the last record of each round must carry the accuracy: dataclasses.replace(record, validation_accuracy=...); "
        "the others come through as they are")


@inside.check
def test_the_learning_rate_is_rewound_to_the_beginning():
    _, _, _, _, (early, technique, seed) = searched([89.5], 2)
    assert technique is retrain.lr_rewinding, "the paper's algorithm retrains by lr_rewinding"
    assert early.step != 8, "early counts as step 8, and so t is 0: the rate goes back to the very beginning, step 0"
    assert early.step == 0, f"the rate goes back to the very beginning, so early counts as step 0, not {early.step}"
    assert seed == 7, "the seed that was given, 7, must be handed on"


HEAD = """
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step != recipe.steps:
            yield record
            continue
        accuracy = train.evaluate(model, data.validation)
        yield dataclasses.replace(record, validation_accuracy=accuracy)
"""

inside.wrong(HEAD + """
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
""", says="which is OUTSIDE")
inside.wrong(HEAD + """
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
        dense_accuracy = accuracy
    inside.restore(model)
""", says="boils a frog")
inside.wrong(HEAD + """
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
    inside.restore(model)
""", says="the model is left dense")
inside.wrong(HEAD + """
        if max_drop is not None and dense_accuracy - accuracy >= max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says="not MORE than two")
inside.wrong((HEAD + """
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""").replace("data.validation", "data.test"), says="you looked at the TEST images")
inside.wrong((HEAD + """
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""").replace("step=0", "inside.step"), says="and so t is 0")
inside.wrong(HEAD + """
        if max_drop and dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says="In Python 0 counts as False")
inside.wrong(HEAD + """
        if dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says="None cannot be compared with a number")
inside.wrong(HEAD + """
        if max_drop is not None and accuracy - dense_accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says="that way round")
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        accuracy = train.evaluate(model, data.validation)
        yield dataclasses.replace(record, validation_accuracy=accuracy)
        if max_drop is not None and dense_accuracy - accuracy > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says="A round is judged where")
for lost, words in (("abs(dense_accuracy - accuracy)", "do not take abs()"),
                    ("(dense_accuracy := max(dense_accuracy, accuracy)) - accuracy", "is not the measure"),
                    ("100 * (1 - accuracy / dense_accuracy)", "no share of dense_accuracy")):
    inside.wrong(HEAD + f"""
        if max_drop is not None and {lost} > max_drop:
            break
        inside = State.copy(model)
    inside.restore(model)
""", says=words)
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step == recipe.steps:
            accuracy = train.evaluate(model, data.validation)
            yield dataclasses.replace(record, validation_accuracy=accuracy)
            if max_drop is not None and dense_accuracy - accuracy > max_drop:
                break
            inside = State.copy(model)
        yield record
    inside.restore(model)
""", says="came through twice")
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step == recipe.steps:
            record.validation_accuracy = train.evaluate(model, data.validation)
            if max_drop is not None and dense_accuracy - record.validation_accuracy > max_drop:
                break
            inside = State.copy(model)
        yield record
    inside.restore(model)
""", says="a record is never changed")
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside, records = State.copy(model), []
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step == recipe.steps:
            accuracy = train.evaluate(model, data.validation)
            record = dataclasses.replace(record, validation_accuracy=accuracy)
            if max_drop is not None and dense_accuracy - accuracy > max_drop:
                break
            inside = State.copy(model)
        records.append(record)
    inside.restore(model)
    return records
""", says="you collected the records in a list")
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in list(iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed)):
        if record.step == recipe.steps:
            accuracy = train.evaluate(model, data.validation)
            record = dataclasses.replace(record, validation_accuracy=accuracy)
            if max_drop is not None and dense_accuracy - accuracy > max_drop:
                break
            inside = State.copy(model)
        yield record
    inside.restore(model)
""", says="asks for every record at once")
inside.wrong("""
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    inside = State.copy(model)
    dense_accuracy = train.evaluate(model, data.validation)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        yield record
    inside.restore(model)
""", says="is handed to you")
