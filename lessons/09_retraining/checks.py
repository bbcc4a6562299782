"""Lesson 09: what must hold of the three techniques and of one control, and the wrong answers that are known."""

import numpy as np

from minirewind import retrain
from minirewind.learn import Exercise
from minirewind.train import State

T, EARLY = 100, 40                          # trained to step 100, early is step 40: so t = 60
MASK = np.array([True, True, False, True])


def state(step, first):
    """A state whose numbers tell where they are from; the dense run's own mask is all True."""
    numbers = np.array([first, first + 1, first + 2, first + 3], np.float32)
    return State(step, numbers, numbers / 10, np.ones(4, bool), numbers[:2] / 100)


def schedule(step):
    """A warm-up and three stairs. Its last rate is neither 0.001 nor its lowest, and after the last update, from step
    99 to 100, there is none.
    """
    assert 0 <= step < T, (f"your function asked the schedule for step {step}. The last update leads from step 99 to "
                           f"step 100, and its rate is that of step 99: trained.step - 1. (And the pruned run counts "
                           f"its steps as the dense one did: in a schedule nothing needs to be shifted.)")
    return 0.002 if step < 10 else 0.1 if step < 50 else 0.02 if step < 75 else 0.003


PARTS = ("weights", "momentum", "mask", "statistics")


class Plan:
    """What a technique answers: its start, its stop, and the rates of all its steps."""

    def __init__(self, name):
        self.trained, self.early, mask = state(T, 10), state(EARLY, 50), MASK.copy()
        answer = getattr(retrain, name)(self.trained, self.early, mask, schedule)
        assert answer is not None, "nothing came back: return start, rate, stop"
        assert isinstance(answer, (tuple, list)), "three things are asked for: return start, rate, stop"
        assert len(answer) == 3, f"three things are asked for, start, rate, stop; you return {len(answer)}"
        self.start, self.rate, self.stop = answer
        assert isinstance(self.start, State), (
            f"start must be a State, everything that a run is made of; yours is a {type(self.start).__name__}. (The "
            f"order is start, rate, stop)")
        assert isinstance(self.stop, (int, np.integer)), (
            f"stop must be a step number; yours is a {type(self.stop).__name__}. A state's step is state.step, and the "
            f"order of the three is start, rate, stop")
        for given, was in ((self.trained, state(T, 10)), (self.early, state(EARLY, 50))):
            assert all(np.array_equal(getattr(given, part), getattr(was, part)) for part in PARTS), (
                "you changed the numbers of a state that was handed to you; the next technique needs it as it was: "
                "state.masked(mask, step) makes a new one")
        assert np.array_equal(mask, MASK), (
            "you changed the mask that was handed to you. All techniques share it, or they could not be compared")

    def origin(self, what):
        """From which state the start's weights, momentum or statistics are."""
        numbers = getattr(self.start, what)
        for name, given in (("trained", self.trained), ("early", self.early)):
            theirs = getattr(given, what)
            kept = MASK if what != "statistics" else slice(None)
            if np.allclose(numbers[kept], theirs[kept]):
                return name
        return "neither"

    def rates(self):
        """The rate of every step from T - t to T."""
        assert callable(self.rate), (
            f"rate must be a function of the step, like the schedule, and yours is {self.rate!r}: training asks it "
            f"anew at every step. optim.constant(r) makes a function that always answers r")
        try:
            given = [self.rate(step) for step in range(EARLY, T)]
        except TypeError as reason:
            raise AssertionError("training asks for the rate of a step, rate(step), and yours cannot be asked so. "
                                 "optim.constant(r) makes a function that can") from reason
        assert not any(callable(rate) for rate in given), (
            "the rate of a step must be a number, and yours is the whole schedule: optim.constant(r) wants a rate, not "
            "a function. A schedule needs no optim.constant, it is a function of the step already")
        return given


SCHEDULE = [schedule(step) for step in range(EARLY, T)]


def must_be_pruned(plan):
    """Whatever the technique: what is pruned is 0, and the mask is the new one."""
    assert np.array_equal(plan.start.mask, MASK) or not plan.start.mask.all(), (
        "the network you start with is not pruned: its mask is the state's own, from the time when nothing was pruned. "
        "The NEW mask must be put on: state.masked(mask, step)")
    assert not np.array_equal(plan.start.mask, ~MASK), (
        "the mask is the wrong way round: it is True where a weight is KEPT, and `masked` wants it just so")
    assert np.array_equal(plan.start.mask, MASK), f"the mask of the start must be the new one, {MASK.tolist()}"
    for what in ("weights", "momentum"):
        value = getattr(plan.start, what)[2]
        name = "weight itself" if what == "weights" else "momentum of it"
        assert value == 0, f"the third weight is pruned, but in your start the {name} is {value:g}, not 0"


def must_be_replayed(rates):
    """The rates are those of the dense run, from T - t to T."""
    assert rates != [0.1] * (T - EARLY), (
        "your rate goes back to that of step T - t, 0.1, and stays there: the schedule is not replayed. It must fall "
        "again where it fell the first time, so hand on the schedule itself, not its value")
    assert rates != [schedule(step) for step in range(T - EARLY)], (
        "your rates begin at step 0, the very beginning of the schedule. They go back t steps and no further. The run "
        "counts from step T - t on, so nothing has to be taken off")
    assert rates != [*SCHEDULE[1:], SCHEDULE[-1]], (
        "each of your rates comes one step too early: schedule(step) is the rate of the update FROM step, as it is")
    assert rates == SCHEDULE, "the rates of steps T - t to T must be those of the dense run: the schedule, as it is"


def must_run_the_steps_from_early_to_trained(plan):
    """Whatever the technique: it counts from T - t to T."""
    assert not isinstance(plan.start.step, State), (
        "the start's step must be a number, and yours is a whole State: masked(mask, early.step), not just early")
    assert (plan.start.step, plan.stop) != (T, 2 * T - EARLY), (
        "you train on from step 100 to step 160. That is t steps, but they have other images in their batches than "
        "steps 40 to 100 had. All techniques count from T - t to T: start at early.step, stop at trained.step")
    assert plan.stop != T - EARLY or plan.start.step != EARLY, (
        "`stop` is a step number, not how many steps: you start at step 40 and stop at step 60. Training stops at step "
        "T, trained.step")
    assert plan.start.step != T or plan.stop != T, (
        "you start at step 100 and stop at step 100: there is nothing to train in between. The start counts as step "
        "T - t, early.step, wherever its weights are from")
    assert plan.start.step == EARLY, (
        f"all techniques run the same steps, T - t to T, so that they see the same images: the start must count as "
        f"step {EARLY}, early.step, and yours is at {plan.start.step}")
    assert plan.stop == T, f"training stops at step T = {T}, where the dense run stopped; yours stops at {plan.stop}"


# -------------------------------------------------------------------------------------------------- retrain.fine_tuning

fine = Exercise("retrain.fine_tuning", hints=(
    "Three questions: from where do the weights come, what is the rate, where does it stop? For fine-tuning, which of\n"
    "the two states holds the weights, and where in the schedule is the last rate?",
    "The start is trained.masked(mask, early.step): the final weights, under the new mask, counted as step T - t. The\n"
    "rate is constant, and it is the schedule's at step trained.step - 1.",
    """
    start = trained.masked(..., ...)
    rate = optim.constant(schedule(...))
    stop = trained.step
    return start, rate, stop
    """))


@fine.check
def test_fine_tuning_keeps_the_final_weights():
    plan = Plan("fine_tuning")
    must_be_pruned(plan)
    assert plan.origin("weights") != "early", (
        "your weights are the early ones: that is rewinding. Fine-tuning goes on with the final weights")
    assert plan.origin("weights") == "trained", "the weights are those of trained, where the mask keeps them"
    assert plan.origin("momentum") == "trained", "the momentum belongs to the weights: it comes from trained, too"
    assert plan.origin("statistics") == "trained", "the statistics belong to the weights: they come from trained, too"


@fine.check
def test_fine_tuning_stays_at_the_last_rate():
    rates = Plan("fine_tuning").rates()
    assert rates != SCHEDULE, (
        "your rates are the schedule's, large again at first. Fine-tuning keeps the LAST rate, for all its steps")
    assert not np.allclose(rates, 0.001, rtol=0.01), (
        "your rate is 0.001, typed in. It is that of one schedule only, and here another one was given: ask it, "
        "schedule(trained.step - 1)")
    assert not np.allclose(rates, 0.1), (
        "your rate is that of step T - t, where training was long ago. Fine-tuning takes the one at which it ENDED")
    assert not np.allclose(rates, 0.002), (
        "your rate is the schedule's first, or its lowest: this schedule warms up, from 0.002. Fine-tuning takes the "
        "LAST one, 0.003")
    assert rates == [0.003] * (T - EARLY), f"the last rate of this schedule is 0.003, at every step; yours {set(rates)}"


@fine.check
def test_fine_tuning_runs_for_t_steps():
    must_run_the_steps_from_early_to_trained(Plan("fine_tuning"))


fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(0.001), trained.step
""", says="typed in")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step)), trained.step
""", says="asked the schedule for step 100")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), schedule(trained.step - 1), trained.step
""", says="must be a function of the step")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, trained.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="nothing to train in between")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained, optim.constant(schedule(trained.step - 1)), trained.step
""", says="from the time when nothing was pruned")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule), trained.step
""", says="wants a rate, not a function")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    stop = trained.step + trained.step - early.step
    return trained.masked(mask, trained.step), optim.constant(schedule(trained.step - 1)), stop
""", says="other images in their batches")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step - early.step
""", says="not how many steps")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early), optim.constant(schedule(trained.step - 1)), trained.step
""", says="yours is a whole State")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), schedule, trained.step
""", says="large again at first")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    trained.weights[~mask] = 0
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="the next technique needs it")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), lambda: schedule(trained.step - 1), trained.step
""", says="yours cannot be asked so")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    mask[0] = False
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="All techniques share it")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(~mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="True where a weight is KEPT")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(early.step)), trained.step
""", says="at which it ENDED")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(min(map(schedule, range(trained.step)))), trained.step
""", says="this schedule warms up")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained
""", says="A state's step is state.step")
fine.wrong("""
def fine_tuning(trained, early, mask, schedule):
    return optim.constant(schedule(trained.step - 1)), trained.masked(mask, early.step), trained.step
""", says="The order is start, rate, stop")


# --------------------------------------------------------------------------------------------- retrain.weight_rewinding

weights = Exercise("retrain.weight_rewinding", hints=(
    "Everything goes back to step T - t. Which of the two states is that? And which one thing must NOT go back,\n"
    "because at step T - t nothing had been pruned yet?",
    "The start is the early state, under the new mask. The rates need no work at all: a schedule is a function of the\n"
    "step, so if the run counts from early.step on, it gives the rates that were used the first time.",
    """
    start = early.masked(..., ...)
    rate = ...
    stop = trained.step
    return start, rate, stop
    """))


@weights.check
def test_the_early_weights_come_back_under_the_new_mask():
    plan = Plan("weight_rewinding")
    must_be_pruned(plan)
    assert plan.origin("weights") != "trained", (
        "your weights are the final ones: nothing was rewound but the rate. The weights of step T - t are in early")
    assert plan.origin("weights") == "early", "the weights are those of early, where the mask keeps them"


@weights.check
def test_what_belongs_to_the_weights_goes_back_with_them():
    plan = Plan("weight_rewinding")
    assert plan.origin("momentum") != "trained", (
        "the weights are the early ones, but their momentum is that of the end: it would push them where other weights "
        "wanted to go. All of the state goes back")
    assert plan.origin("statistics") != "trained", (
        "weights rewound, statistics not: the batch norms would go on with means and variances that belong to the "
        "final weights. All of the state goes back")
    assert plan.start.momentum.any(), (
        "the momentum is wiped out. At step T - t the run had one, and all of its state goes back")
    assert plan.origin("momentum") == "early", "the momentum is that of early, where the mask keeps it"
    assert plan.origin("statistics") == "early", "the statistics are those of early"


@weights.check
def test_weight_rewinding_replays_the_schedule():
    rates = Plan("weight_rewinding").rates()
    assert rates != [0.003] * (T - EARLY), "your rate is the last one, all the time; here the schedule is replayed"
    must_be_replayed(rates)


@weights.check
def test_weight_rewinding_runs_the_same_steps_as_the_others():
    must_run_the_steps_from_early_to_trained(Plan("weight_rewinding"))


weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early, schedule, trained.step
""", says="from the time when nothing was pruned")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), schedule, trained.step
""", says="nothing was rewound but the rate")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    start = trained.masked(mask, early.step)
    start.weights[mask] = early.weights[mask]
    start.momentum[mask] = early.momentum[mask]
    return start, schedule, trained.step
""", says="statistics not")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), optim.constant(schedule(early.step)), trained.step
""", says="the schedule is not replayed")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), lambda step: schedule(step - early.step), trained.step
""", says="nothing has to be taken off")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), lambda step: schedule(step + early.step), trained.step
""", says="nothing needs to be shifted")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, 0), schedule, trained.step
""", says="so that they see the same images")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    early.mask[...] = mask
    return early.masked(mask, early.step), schedule, trained.step
""", says="the next technique needs it")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    start = early.masked(mask, early.step)
    start.momentum[...] = 0
    return start, schedule, trained.step
""", says="the momentum is wiped out")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    start = trained.masked(mask, early.step)
    start.weights[mask] = early.weights[mask]
    start.statistics[...] = early.statistics
    return start, schedule, trained.step
""", says="their momentum is that of the end")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="here the schedule is replayed")
weights.wrong("""
def weight_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), lambda step: schedule(min(step + 1, trained.step - 1)), trained.step
""", says="one step too early")


# ------------------------------------------------------------------------------------------------- retrain.lr_rewinding

rates = Exercise("retrain.lr_rewinding", hints=(
    "What does it share with fine-tuning, and what with weight rewinding?",
    "The start of the one, the rate of the other. Counted as step early.step, the final weights meet the schedule\n"
    "where the early ones once met it.",
    """
    start = ...              # as in fine_tuning
    rate = ...               # as in weight_rewinding
    stop = trained.step
    return start, rate, stop
    """))


@rates.check
def test_the_final_weights_stay():
    plan = Plan("lr_rewinding")
    must_be_pruned(plan)
    assert plan.origin("weights") != "early", (
        "your weights are the early ones: that is weight rewinding. Here only the learning rate goes back")
    assert plan.origin("weights") == "trained", "the weights stay those of trained, where the mask keeps them"
    assert plan.origin("momentum") == "trained", "the momentum stays with the weights, that of trained"
    assert plan.origin("statistics") == "trained", "the statistics stay with the weights, those of trained"


@rates.check
def test_the_rates_go_back_to_step_T_minus_t_and_fall_again():
    plan = Plan("lr_rewinding")
    assert (plan.start.step, plan.stop) != (T, T), (
        "your start counts as step 100, and there the schedule is over: no rate is rewound, no step is trained. It is "
        "the step number that rewinds the rate: early.step")
    if plan.start.step == T:
        must_run_the_steps_from_early_to_trained(plan)
    given = plan.rates()
    assert given != [0.003] * (T - EARLY), (
        "your rate is the last one all the time: that is fine-tuning. The rate goes back to what it was at step T - t")
    must_be_replayed(given)


@rates.check
def test_lr_rewinding_runs_the_same_steps_as_the_others():
    must_run_the_steps_from_early_to_trained(Plan("lr_rewinding"))


rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return early.masked(mask, early.step), schedule, trained.step
""", says="that is weight rewinding")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, trained.step), schedule, trained.step
""", says="the step number that rewinds the rate")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), lambda step: schedule(step - early.step), trained.step
""", says="the very beginning of the schedule")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(early.step)), trained.step
""", says="and stays there")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="that is fine-tuning")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), schedule(early.step), trained.step
""", says="must be a function of the step")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule), trained.step
""", says="wants a rate, not a function")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    t = trained.step - early.step
    return trained.masked(mask, trained.step), lambda step: schedule(step - t), trained.step + t
""", says="other images in their batches")
rates.wrong("""
def lr_rewinding(trained, early, mask, schedule):
    return State(early.step, trained.weights, trained.momentum, mask, trained.statistics), schedule, trained.step
""", says="the weight itself is 12, not 0")


# -------------------------------------------------------------------------------------- retrain.weight_rewinding_low_lr

control = Exercise("retrain.weight_rewinding_low_lr", hints=(
    "Weight rewinding goes back with the weights AND with the rate. This control goes back with one of them only.\n"
    "Which? What has the other one to be, then?",
    "The start of weight rewinding, and the rate of fine-tuning.",
    """
    start = ...              # as in weight_rewinding
    rate = ...               # as in fine_tuning
    stop = trained.step
    return start, rate, stop
    """))


@control.check
def test_the_control_has_the_early_weights():
    plan = Plan("weight_rewinding_low_lr")
    must_be_pruned(plan)
    assert plan.origin("weights") != "trained", (
        "your weights are the final ones, at whatever rate: the control is about the EARLY weights")
    assert [plan.origin(what) for what in ("weights", "momentum", "statistics")] == ["early"] * 3, (
        "weights, momentum and statistics are those of early, where the mask keeps them")


@control.check
def test_the_control_has_the_last_rate_all_the_time():
    given = Plan("weight_rewinding_low_lr").rates()
    assert given != SCHEDULE, (
        "your rates are the schedule's: that is weight rewinding again, with both things changed. The control leaves "
        "the rate where training ended")
    assert not np.allclose(given, 0.001, rtol=0.01), (
        "your rate is 0.001, typed in, and this schedule ends at another one: ask it for its last rate, as in "
        "fine_tuning")
    assert given != [0.1] * (T - EARLY), "your rate is that of step T - t; the control has the LAST one, a low rate"
    assert len(set(given)) == 1, (
        "your rates change from step to step; the control has one rate all the time, that at which training ended")
    assert given == [0.003] * (T - EARLY), f"the last rate of this schedule is 0.003, at every step; yours {set(given)}"


@control.check
def test_the_control_runs_the_same_steps_as_the_others():
    must_run_the_steps_from_early_to_trained(Plan("weight_rewinding_low_lr"))


control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early.masked(mask, early.step), schedule, trained.step
""", says="with both things changed")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return trained.masked(mask, early.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="about the EARLY weights")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early.masked(mask, early.step), optim.constant(schedule(early.step)), trained.step
""", says="a low rate")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early.masked(mask, early.step), optim.constant(0.001), trained.step
""", says="ask it for its last rate")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early.masked(mask, early.step), lambda step: schedule(step) / 100, trained.step
""", says="change from step to step")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early, optim.constant(schedule(trained.step - 1)), trained.step
""", says="from the time when nothing was pruned")
control.wrong("""
def weight_rewinding_low_lr(trained, early, mask, schedule):
    return early.masked(mask, trained.step), optim.constant(schedule(trained.step - 1)), trained.step
""", says="nothing to train in between")
