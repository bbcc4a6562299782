"""Lesson 11: what must hold of a fair comparison, and the wrong answers that are known."""

from dataclasses import dataclass, replace

import numpy as np

from minirewind import report
from minirewind.learn import Exercise


@dataclass(frozen=True)
class Run:
    """What these checks need of a row of results.csv."""

    technique: str
    seed: int
    delta: float
    validation_accuracy: float = 90.0
    retrain_fraction: float = 0.9
    density: float = 0.1
    protocol: str = "one_shot"
    pruning: str = "global_magnitude"
    stream: int = 0
    accuracy: float = 90.0

    @property
    def compression(self):
        return 1 / self.density


def runs(technique, deltas, **more):
    """One run for each delta, of the seeds 0, 1, 2, ...; the dense network reads 95 % correctly."""
    return [Run(technique, seed, delta, **{"accuracy": 95 + delta, **more}) for seed, delta in enumerate(deltas)]


# ---------------------------------------------------------------------------------------------- report.median_and_range

median = Exercise("report.median_and_range", hints=(
    "Three numbers come back, in this order: the one in the middle, the lowest, the highest. Can you loop over\n"
    "`values` three times, if it is a generator?",
    "Make a list of it first: a generator is empty after one loop. Then np.median, min and max.",
    """
    values = list(values)
    return np.median(values), ...
    """))


@median.check
def test_one_wild_run_does_not_move_the_middle():
    found = report.median_and_range([-2.0, -1.0, -60.0])
    assert found is not None, "nothing came back: did you forget the return?"
    assert isinstance(found, (tuple, list)), f"three numbers are asked for, in order; yours is a {type(found).__name__}"
    assert found[0] != -60, "your first number is the lowest: the median comes first, then the lowest and the highest"
    assert found[0] != -1, "you took what stands in the middle of the list, but the list is not sorted"
    assert not np.isclose(found[0], -21), (
        "your first number is the mean: one run that went wrong (-60) has dragged it to -21. The median of -2, -1 and "
        "-60 is -2")
    assert np.isclose(found[0], -2), f"the median of -2, -1 and -60 is -2 (sorted, the middle one), yours is {found[0]}"


@median.check
def test_the_bar_goes_from_the_lowest_to_the_highest():
    found = report.median_and_range([1.0, -3.0, 2.0, 0.0])
    assert len(found) == 3, f"three numbers: median, lowest, highest. Yours are {len(found)}"
    assert not np.allclose(found[1:], [3.5, 1.5]), (
        "you return how FAR the lowest and the highest lie from the median; asked are these two values themselves")
    assert not np.allclose(found[1:], [-0.75, 1.25]), (
        "those are the quartiles, between which half of the runs lie. The bar goes to the very lowest and highest one")
    assert tuple(found[1:]) != (1, 0), "you took the first and the last of the list, but it is not sorted: min and max"
    assert found[1] <= found[2], f"the lowest comes before the highest, yours are {found[1:]}"
    assert (found[1], found[2]) == (-3, 2), f"the lowest of 1, -3, 2, 0 is -3, the highest 2; yours are {found[1:]}"
    assert np.isclose(found[0], 0.5), "of an even number of runs the median is half way between the two in the middle"


@median.check
def test_it_only_looks_at_the_values():
    values = [1.25, -3.5, 2.125]
    found = report.median_and_range(values)
    assert values == [1.25, -3.5, 2.125], (
        "you have sorted the caller's own list: its runs stand in another order now, and no longer beside their seeds. "
        "sorted(values) and list(values) make new ones")
    assert tuple(found) == (1.25, -3.5, 2.125), (
        f"of 1.25, -3.5, 2.125 the median is 1.25, the lowest -3.5, the highest 2.125, to the last digit; yours "
        f"{found}. Rounding is for those who print it")


@median.check
def test_it_takes_what_can_be_looped_over_only_once():
    try:
        found = report.median_and_range(value for value in (3.0, 1.0, 2.0))
    except NotImplementedError:
        raise
    except Exception as reason:
        raise AssertionError("a generator can be looped over only once, and after that it is empty: make a list of it "
                             f"first ({type(reason).__name__}: {reason})") from None
    assert tuple(found) == (2, 1, 3), f"of 3, 1, 2 the median is 2, the lowest 1, the highest 3; yours are {found}"


median.wrong("""
def median_and_range(values):
    values = list(values)
    return sum(values) / len(values), min(values), max(values)
""", says="is the mean")
median.wrong("""
def median_and_range(values):
    return float(np.median(list(values))), float(min(values)), float(max(values))
""", says="looped over only once")
median.wrong("""
def median_and_range(values):
    values = list(values)
    return values[len(values) // 2], min(values), max(values)
""", says="the list is not sorted")
median.wrong("""
def median_and_range(values):
    values = list(values)
    return min(values), np.median(values), max(values)
""", says="the median comes first")
median.wrong("""
def median_and_range(values):
    values = list(values)
    return np.median(values), values[0], values[-1]
""", says="the first and the last of the list")
median.wrong("""
def median_and_range(values):
    values = list(values)
    return float(np.median(values)), float(max(values)), float(min(values))
""", says="the lowest comes before the highest")
median.wrong("""
def median_and_range(values):
    if not isinstance(values, list):
        values = list(values)
    values.sort()
    return np.median(values), values[0], values[-1]
""", says="you have sorted the caller's own list")
for answer, words in (("round(middle, 1), round(min(values), 1), round(max(values), 1)", "for those who print"),
                      ("middle, np.percentile(values, 25), np.percentile(values, 75)", "the quartiles"),
                      ("middle, middle - min(values), max(values) - middle", "how FAR"),
                      ("sorted(values)[len(values) // 2], min(values), max(values)", "between the two in the middle"),
                      ("{'median': middle, 'low': min(values), 'high': max(values)}", "yours is a dict")):
    median.wrong(f"""
def median_and_range(values):
    values = list(values)
    middle = float(np.median(values))
    return {answer}
""", says=words)


# -------------------------------------------------------------------------------------------- report.best_by_validation

best = Exercise("report.best_by_validation", hints=(
    "For each group, which t is kept? And by which images was it chosen? If a method is used with one t for all\n"
    "seeds, is the choice made once for a group or once for each seed?",
    "Two times report.grouped: first the rows by (protocol, technique, pruning, density), then those of one group by\n"
    "retrain_fraction. For each t take the median of row.validation_accuracy; the t with the highest is the group's.\n"
    "max(sorted(times), key=...) gives the first, which is the shortest, of equal ones. In the framework's own module\n"
    "the function is called grouped.",
    """
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density

    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        best[name] = ...       # max over sorted(times), by the median validation accuracy of times[t]
    return [row for row in rows if ...]
    """))

SHORT_IS_BETTER = [
    *runs("lr_rewinding", [-1.0, -1.2, -1.1], validation_accuracy=95.0, retrain_fraction=0.5),
    *runs("lr_rewinding", [-0.1, -0.2, -0.3], validation_accuracy=94.0, retrain_fraction=0.9),
    *runs("lr_rewinding", [-3.0, -3.2, -3.1], validation_accuracy=90.0, retrain_fraction=0.7),
    *runs("lr_rewinding", [-2.0, -2.2, -2.1], validation_accuracy=92.0, retrain_fraction=1.0)]


@best.check
def test_the_test_images_have_no_say():
    rows = report.best_by_validation(SHORT_IS_BETTER)
    assert rows is not None, "nothing came back: return the rows that are kept"
    assert isinstance(rows, list), f"expected the list of the rows that are kept, yours is a {type(rows).__name__}"
    kept = {row.retrain_fraction for row in rows}
    assert kept != {0.7}, "you kept the t with the LOWEST validation accuracy: an accuracy is good where it is high"
    assert kept != {1.0}, (
        "you kept the longest time. More steps are not always better, and cost more: choose by the validation accuracy")
    assert kept != {0.9}, (
        "you chose t by the test images: t = 0.9 has the better test accuracy, but the better validation accuracy has "
        "t = 0.5. Whoever chooses by the test images reports their own luck")
    assert kept == {0.5}, f"the t with the higher validation accuracy is 0.5, you kept {sorted(kept)}"


@best.check
def test_one_time_is_chosen_for_all_seeds_together():
    rows = [Run("lr_rewinding", seed, 0.0, accuracy, t) for t, all_of_them in ((0.5, (90, 95, 91)), (0.9, (92, 93, 94)))
            for seed, accuracy in enumerate(all_of_them)]
    kept = report.best_by_validation(rows)
    assert len({row.retrain_fraction for row in kept}) == 1, (
        "you chose a t for each seed. Somebody who uses the method decides once: one t for all seeds of a group, by "
        "the median over them")
    assert len(kept) == 3, f"the three seeds at the chosen t are kept, you kept {len(kept)} rows"
    wild = [Run("lr_rewinding", seed, 0.0, accuracy, t) for t, all_of_them in ((0.5, (99, 90, 90)), (0.9, (92, 91, 91)))
            for seed, accuracy in enumerate(all_of_them)]
    assert {row.retrain_fraction for row in report.best_by_validation(wild)} == {0.9}, (
        "one wild seed (99) decided. The median over the seeds does, and it is 91 for t = 0.9 and 90 for t = 0.5")


@best.check
def test_every_technique_and_every_density_has_its_own_time():
    other = [row for each in (("fine_tuning", 0.1), ("lr_rewinding", 0.05)) for row in (
        *runs(each[0], [0.0] * 3, validation_accuracy=90.0, retrain_fraction=0.5, density=each[1]),
        *runs(each[0], [0.0] * 3, validation_accuracy=93.0, retrain_fraction=0.9, density=each[1]))]
    kept = report.best_by_validation(SHORT_IS_BETTER + other)
    assert all(sum(row.technique == name and row.density == density for row in kept) <= 3 for name, density in (
        ("lr_rewinding", 0.1), ("fine_tuning", 0.1), ("lr_rewinding", 0.05))), (
        "of one group you kept runs at two times: the best t of ANOTHER group let them through. A row is kept if its t "
        "is the best of its own group, best[cell(row)]")
    assert len(kept) == 9, (
        f"each technique at each density has a best t of its own, 3 groups of 3 seeds here; you kept {len(kept)} rows")
    assert {(row.technique, row.density, row.retrain_fraction) for row in kept} == {
        ("lr_rewinding", 0.1, 0.5), ("fine_tuning", 0.1, 0.9), ("lr_rewinding", 0.05, 0.9)}, (
        "each technique at each density keeps its own best t")


@best.check
def test_the_rows_keep_their_order():
    rows = runs("lr_rewinding", [0.0] * 3) + runs("fine_tuning", [0.0] * 3)
    mixed = [rows[i] for i in (4, 0, 2, 5, 1, 3)]
    assert report.best_by_validation(mixed) == mixed, (
        "all six rows are kept here, and you put them in another order, group by group. Choose first, and then go "
        "through the rows once more: [row for row in rows if ...]")
    mixed = [SHORT_IS_BETTER[i] for i in (4, 0, 8, 2, 5, 1, 3, 6, 7)]
    before = mixed.copy()
    report.best_by_validation(mixed)
    assert mixed == before, "you sorted or shortened the caller's own list of rows: choosing only looks at it"


@best.check
def test_runs_of_another_protocol_or_pruning_method_are_another_group():
    for what, value in (("protocol", "iterative"), ("pruning", "random_mask")):
        other = [*runs("lr_rewinding", [0.0] * 5, validation_accuracy=91.0, retrain_fraction=0.5, **{what: value}),
                 *runs("lr_rewinding", [0.0] * 5, validation_accuracy=99.0, retrain_fraction=0.9, **{what: value})]
        kept = report.best_by_validation(SHORT_IS_BETTER + other)
        assert {(getattr(row, what), row.retrain_fraction) for row in kept} == {
            (getattr(SHORT_IS_BETTER[0], what), 0.5), (value, 0.9)}, (
            f"runs that differ in their {what} have each a best t of their own, and you threw them together. To a "
            f"group belong protocol, technique, pruning and density")


@best.check
def test_of_equal_times_the_shortest_and_repeats_do_not_count():
    rows = [row for t in (0.9, 0.5) for row in runs("fine_tuning", [0.0] * 3, retrain_fraction=t)]
    assert {row.retrain_fraction for row in report.best_by_validation(rows)} == {0.5}, (
        "both times are equally good, so the shorter one is kept: it costs less")
    repeats = [row for t in (0.5, 0.9)
               for row in runs("lr_rewinding", [9.0] * 3, validation_accuracy=99.0 * t, retrain_fraction=t, stream=1)]
    repeats += runs("lr_rewinding", [9.0] * 3, validation_accuracy=99.9, retrain_fraction=0.9, stream=2)
    kept = report.best_by_validation(SHORT_IS_BETTER + repeats)
    assert all(row.stream == 0 for row in kept), "repeats (stream 1) only show the noise: begin with first_runs(rows)"
    assert {row.retrain_fraction for row in kept} == {0.5}, "repeats (stream 1) have no say in which t is best"


best.wrong("""
def best_by_validation(rows):
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density
    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        best[name] = max(sorted(times), key=lambda t: np.median([row.accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]
""", says="reports their own luck")
best.wrong("""
def best_by_validation(rows):
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density, row.seed
    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        best[name] = max(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]
""", says="decides once")
best.wrong("""
def best_by_validation(rows):
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density
    kept = []
    for members in grouped(first_runs(rows), cell).values():
        times = grouped(members, lambda row: row.retrain_fraction)
        kept += times[max(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))]
    return kept
""", says="go through the rows once more")
best.wrong("""
def best_by_validation(rows):
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density
    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        best[name] = min(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]
""", says="LOWEST validation accuracy")
best.wrong("""
def best_by_validation(rows):
    times = grouped(first_runs(rows), lambda row: row.retrain_fraction)
    best = max(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return times[best]
""", says="keeps its own best t")
CHOOSE = """
def best_by_validation(rows):
    def cell(row):
        return row.protocol, row.technique, row.pruning, row.density
    rows, best = first_runs(rows), {}
    for name, members in grouped(rows, cell).items():
        times = grouped(members, lambda row: row.retrain_fraction)
        best[name] = max(sorted(times), key=lambda t: np.median([row.validation_accuracy for row in times[t]]))
    return [row for row in rows if row.retrain_fraction == best[cell(row)]]
"""
for right, wrong, words in (
        ("np.median(", "np.mean(", "one wild seed (99) decided"), ("sorted(times)", "times", "it costs less"),
        ("row.protocol, ", "", "differ in their protocol"), ("row.pruning, ", "", "differ in their pruning"),
        ("rows, best = first_runs(rows), {}", "best = {}", "only show the noise"),
        ("== best[cell(row)]]", "in best.values()]", "the best t of ANOTHER group"),
        ("lambda t: np.median([row.validation_accuracy for row in times[t]])", "float", "you kept the longest time"),
        ("    rows, best", "    rows.sort(key=lambda row: row.seed)\n    rows, best", "the caller's own list of")):
    best.wrong(CHOOSE.replace(right, wrong), says=words)


# -------------------------------------------------------------------------------------------- report.paired_differences

paired = Exercise("report.paired_differences", hints=(
    "Two runs make a pair if they have the same dense network. Which two things must be equal for that?",
    "The cell and the seed. Make for each technique a dictionary from (cell, seed) to the change, of the rows at\n"
    "their best t. The keys that both have are the pairs.",
    """
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = ...
    return pairs
    """))


def same_cell(found):
    """The differences by seed, where there is one cell."""
    assert found is not None, "nothing came back: return the dictionary"
    assert isinstance(found, dict), f"expected a dictionary, cell by cell; yours is a {type(found).__name__}"
    assert len(found) == 1, f"these runs are of one cell (protocol, pruning, density), yours has {len(found)}"
    assert next(iter(found)) == ("one_shot", "global_magnitude", 0.1), (
        f"the key of a cell is cell_of(row), (protocol, pruning, density), yours is {next(iter(found))}")
    pairs = next(iter(found.values()))
    assert isinstance(pairs, dict), (
        f"in a cell stands a dictionary, from the seed to its difference; yours is a {type(pairs).__name__}")
    return pairs


@paired.check
def test_runs_are_paired_by_their_seed_and_by_nothing_else():
    a, b = runs("lr_rewinding", [-1.0, -5.0, -9.0]), runs("fine_tuning", [-2.0, -6.0, -10.0])
    found = same_cell(report.paired_differences(a + b[::-1], "lr_rewinding", "fine_tuning"))
    assert not all(np.isclose(value, -1) for value in found.values()), (
        "you took b minus a. It is a minus b: above zero where a is better")
    assert any(found.values()), (
        "all your differences are 0: you subtracted numbers that are equal here, such as the validation accuracies. "
        "What is compared is the change on the test images, row.delta")
    assert set(found) == {0, 1, 2}, f"one difference for each of the seeds 0, 1 and 2, yours are of {sorted(found)}"
    assert all(np.isclose(value, 1) for value in found.values()), (
        f"each seed is better by 1 point, yours are {found}: pair runs by their seed, not by their place in the list")


@paired.check
def test_a_minus_b_keeps_its_sign():
    a, b = runs("lr_rewinding", [-1.0]), runs("fine_tuning", [-4.0])
    value = same_cell(report.paired_differences(a + b, "lr_rewinding", "fine_tuning"))[0]
    assert np.isclose(value, 3), f"-1 minus -4 is 3, yours is {value}"
    value = same_cell(report.paired_differences(b + a, "fine_tuning", "lr_rewinding"))[0]
    assert np.isclose(value, -3), (
        f"-4 minus -1 is -3, yours is {value}. A difference has a sign: below zero where a is worse")


@paired.check
def test_a_seed_with_one_run_only_has_no_pair():
    a, b = runs("lr_rewinding", [-1.0, -2.0, -3.0]), runs("fine_tuning", [-2.0, -4.0])
    try:
        found = same_cell(report.paired_differences(a + b, "lr_rewinding", "fine_tuning"))
    except KeyError:
        raise AssertionError("seed 2 has only one of the two runs and cannot be paired: leave it out") from None
    assert set(found) == {0, 1}, "seed 2 has only one of the two runs and cannot be paired: leave it out"


@paired.check
def test_every_cell_has_its_own_pairs():
    rows = [*runs("lr_rewinding", [-1.0, -2.0]), *runs("fine_tuning", [-3.0, -4.0]),
            *runs("lr_rewinding", [-5.0, -6.0], density=0.05), *runs("fine_tuning", [-10.0, -11.0], density=0.05)]
    alone = runs("lr_rewinding", [-1.0], density=0.2)
    found = report.paired_differences(rows + alone, "lr_rewinding", "fine_tuning")
    cell = "one_shot", "global_magnitude"
    assert (*cell, 0.05) in found, (
        "there are runs at two densities, and you put all of them into one cell: a run may only be compared with one "
        "at the same density. cell_of(row) says to which cell a row belongs")
    assert (*cell, 0.2) not in found, "a cell where no seed has both runs has no pairs: it is no key of the result"
    assert found == {(*cell, 0.1): {0: 2, 1: 2}, (*cell, 0.05): {0: 5, 1: 5}}, (
        f"the differences are 2 and 2 at density 0.1, 5 and 5 at density 0.05; yours are {found}")


@paired.check
def test_each_technique_is_taken_at_its_best_time():
    a = [*runs("lr_rewinding", [-1.0] * 3, validation_accuracy=95.0, retrain_fraction=0.5),
         *runs("lr_rewinding", [-7.0] * 3, validation_accuracy=80.0, retrain_fraction=0.9)]
    b = [*runs("fine_tuning", [-3.0] * 3, validation_accuracy=85.0, retrain_fraction=0.9),
         *runs("fine_tuning", [-8.0] * 3, validation_accuracy=70.0, retrain_fraction=0.5)]
    found = same_cell(report.paired_differences(a + b, "lr_rewinding", "fine_tuning"))
    assert all(np.isclose(value, 2) for value in found.values()), (
        f"learning-rate rewinding is best at t = 0.5 (-1), fine-tuning at t = 0.9 (-3), which makes 2; yours is "
        f"{found[0]}. Begin with best_by_validation(rows)")
    a = [Run("lr_rewinding", seed, delta, accuracy, t, accuracy=95 + delta) for t, delta, accuracies in (
        (0.5, 5.0, (90, 95, 91)), (0.9, -1.0, (92, 93, 94))) for seed, accuracy in enumerate(accuracies)]
    found = same_cell(report.paired_differences(a + runs("fine_tuning", [-2.0] * 3), "lr_rewinding", "fine_tuning"))
    assert all(np.isclose(value, 1) for value in found.values()), (
        f"you let each seed choose its own best t, and so seed 1 comes at another one. The best t is that of the whole "
        f"group, here 0.9, and makes 1 for each seed; yours are {found}")


paired.wrong("""
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    pairs = {}
    for cell, members in grouped(rows, cell_of).items():
        first = [row for row in members if row.technique == a]
        second = [row for row in members if row.technique == b]
        pairs[cell] = {x.seed: x.delta - y.delta for x, y in zip(first, second)}
    return pairs
""", says="not by their place in the list")
paired.wrong("""
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a]):
        pairs.setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]
    return pairs
""", says="cannot be paired")
paired.wrong("""
def paired_differences(rows, a, b):
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]
    return pairs
""", says="Begin with best_by_validation")


paired.wrong("""
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    changes = {name: {row.seed: row.delta for row in rows if row.technique == name} for name in (a, b)}
    return {cell_of(rows[0]): {seed: changes[a][seed] - changes[b][seed] for seed in changes[a] if seed in changes[b]}}
""", says="you put all of them into one cell")
paired.wrong("""
def paired_differences(rows, a, b):
    pairs = {}
    for cell, members in grouped(best_by_validation(rows), cell_of).items():
        changes = {name: {row.seed: row.delta for row in members if row.technique == name} for name in (a, b)}
        pairs[cell] = {seed: changes[a][seed] - changes[b][seed] for seed in changes[a] if seed in changes[b]}
    return pairs
""", says="no key of the result")
paired.wrong("""
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = changes[b][cell, seed] - changes[a][cell, seed]
    return pairs
""", says="you took b minus a")
paired.wrong("""
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = abs(changes[a][cell, seed] - changes[b][cell, seed])
    return pairs
""", says="A difference has a sign")
PAIRS = """
def paired_differences(rows, a, b):
    rows = best_by_validation(rows)
    changes = {name: {(cell_of(row), row.seed): row.delta for row in rows if row.technique == name} for name in (a, b)}
    pairs = {}
    for cell, seed in sorted(changes[a].keys() & changes[b].keys()):
        pairs.setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]
    return pairs
"""
for right, wrong, words in (
        ("row.delta", "row.validation_accuracy", "all your differences are 0"),
        ("setdefault(cell, {})[seed] = changes[a][cell, seed] - changes[b][cell, seed]",
         "setdefault(cell, []).append(changes[a][cell, seed] - changes[b][cell, seed])", "yours is a list"),
        ("(cell_of(row), row.seed)", "(row.compression, row.seed)", "the key of a cell is cell_of(row)"),
        ("best_by_validation(rows)", "sorted(first_runs(rows), key=lambda row: row.validation_accuracy)",
         "let each seed choose")):
    paired.wrong(PAIRS.replace(right, wrong), says=words)


# ------------------------------------------------------------------------------------------------------ report.interval

sure = Exercise("report.interval", hints=(
    "How uncertain is the mean of 100 differences, if each of them is uncertain by 2? By 2 as well?",
    "The mean of n is uncertain by s / sqrt(n), with s = np.std(differences, ddof=1). The interval reaches\n"
    "t_quantile(n - 1) times that to both sides of the mean. With fewer than two there is no s: return None.",
    """
    n = len(differences)
    if n < 2:
        return None
    mean, error = np.mean(differences), np.std(differences, ddof=1) / ...
    reach = t_quantile(...) * error
    return float(mean - reach), float(mean + reach)
    """))

FIVE = [1.0, 2.0, 3.0, 4.0, 5.0]                    # mean 3, s = sqrt(2.5), s / sqrt(5) = 0.7071


def reach_of(found):
    """How far the interval reaches to each side."""
    low, high = found
    assert not np.isclose([low, high], [3, 1.9632], atol=1e-3).all(), (
        "you return the middle and how far it reaches; asked are the two ends, mean - reach and mean + reach")
    assert low <= high, f"the lower end comes first, yours are {low:.2f} and {high:.2f}"
    assert not np.isclose(low + high, 0), "your interval lies around zero: it lies around the mean of the differences"
    assert np.isclose((low + high) / 2, 3), f"the interval lies around the mean, 3; yours around {(low + high) / 2}"
    return (high - low) / 2


@sure.check
def test_from_one_difference_nothing_follows():
    assert report.interval([1.0]) is None, "one difference says nothing about how much they vary: return None"
    try:
        found = report.interval([])
    except (ValueError, ZeroDivisionError, IndexError) as reason:
        raise AssertionError("of no difference at all there is no mean, and you computed with it: return None where "
                             "there are fewer than two") from reason
    assert found is None, "no difference says nothing at all: return None"
    found = report.interval([1.0, 3.0])
    assert found is not None, "two differences do say something, though little: None is for fewer than two"


@sure.check
def test_the_mean_of_many_is_less_uncertain_than_one():
    found = reach_of(report.interval(FIVE))
    assert not np.isclose(found, np.sqrt(0.5), atol=1e-3), (
        "you went s / sqrt(n) to each side. Between these two ends the truth lies in two of three cases, not in 95 of "
        "100: it takes t_quantile(n - 1) times as far")
    assert not np.isclose(found, 2.7764 * np.sqrt(2.5) / 5, atol=1e-3), "you divided s by n, and it is the ROOT of n"
    assert not np.isclose(found, 2.7764 * np.sqrt(2.5) / 2, atol=1e-3), (
        "you divided s by the root of n - 1. The 1 is taken off inside s (ddof=1) and for t_quantile, not here")
    assert not np.isclose(found, 2.7764 * 2.5 / np.sqrt(5), atol=1e-3), "that is the variance; s is its root, np.std"
    assert not np.isclose(found, 2, atol=1e-3), (
        "those are the lowest and the highest difference: where the RUNS lie. Asked is where their mean may lie")
    assert not np.isclose(found, 2.7764 * np.sqrt(13.75 / 5), atol=1e-3), (
        "your s is measured from 0, and not from the mean: the large differences make it large, however equal they are")
    assert not np.isclose(found, 1.9632 / 2, atol=1e-3), (
        "your interval is half as long as it should be: it reaches t_quantile(n - 1) * s / sqrt(n) to EACH side")
    assert not np.isclose(found, report.t_quantile(3) * np.sqrt(0.5), atol=1e-3), (
        "t_quantile takes n - 1, and you took one more off: 4 for five differences")
    assert not np.isclose(found, 1.9, atol=1e-3), (
        "those are percentiles of the differences: between them lie 95 % of the RUNS. Asked is where the mean lies")
    assert not np.isclose(found, 2.7764 * np.sqrt(2.5), atol=1e-3), (
        "the square root of n is missing: s says how much one difference varies, their mean varies less, by sqrt(n)")
    assert not np.isclose(found, 2.7764 * np.sqrt(2 / 5), atol=1e-3), (
        "you divided by n in the standard deviation. The mean was computed from the same numbers and lies too close to "
        "them, so it is n - 1: ddof=1")
    assert not np.isclose(found, 1.96 * np.sqrt(0.5), atol=5e-2), (
        "1.96 is for very many seeds. For 5 it is t_quantile(4) = 2.78, since s itself is only guessed")
    assert not np.isclose(found, report.t_quantile(5) * np.sqrt(0.5), atol=1e-3), (
        "t_quantile takes n - 1, not n: one of the n numbers was spent on the mean")
    assert np.isclose(found, 1.9632, atol=1e-3), (
        f"for 1, 2, 3, 4, 5 it reaches 2.776 * sqrt(2.5) / sqrt(5) = 1.963 to each side, yours {found:.3f}")


@sure.check
def test_it_lies_around_the_mean():
    low, high = report.interval([-3.0, 0.0, 0.0])
    assert not np.isclose((low + high) / 2, 1), (
        "the mean of -3, 0 and 0 is -1, and your interval lies around 1: a difference has a sign, do not take abs()")
    low, high = report.interval([0.0, 0.0, 3.0])
    assert not np.isclose(low + high, 0), (
        "your interval lies around the median, 0; s and t_quantile belong to the mean, 1")
    assert np.isclose((low + high) / 2, 1), f"the mean of 0, 0 and 3 is 1, yours lies around {(low + high) / 2:.2f}"


@sure.check
def test_95_of_100_intervals_hold_the_truth():
    random = np.random.default_rng(0)
    trials = [report.interval(list(random.normal(0.7, 2, size=4))) for _ in range(2000)]
    share = np.mean([low <= 0.7 <= high for low, high in trials])
    assert 0.93 < share < 0.97, (
        f"of 2000 intervals, each from 4 numbers around 0.7, 95 % should hold 0.7; of yours {share:.0%} do")


sure.wrong("""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    mean, s = np.mean(differences), np.std(differences, ddof=1)
    return float(mean - t_quantile(n - 1) * s), float(mean + t_quantile(n - 1) * s)
""", says="square root of n is missing")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(n)
    return float(mean - 1.96 * error), float(mean + 1.96 * error)
""", says="1.96 is for very many seeds")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    mean, error = np.mean(differences), np.std(differences) / math.sqrt(n)
    reach = t_quantile(n - 1) * error
    return float(mean - reach), float(mean + reach)
""", says="ddof=1")
sure.wrong("""
def interval(differences):
    n = len(differences)
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(n)
    reach = t_quantile(max(1, n - 1)) * error
    return float(mean - reach), float(mean + reach)
""", says="says nothing")


for reach, words in (("t_quantile(n - 1) * s / n", "ROOT of n"), ("s / math.sqrt(n)", "in two of three cases"),
                     ("t_quantile(n - 1) * s / math.sqrt(n - 1)", "by the root of n - 1"),
                     ("t_quantile(n - 1) * s**2 / math.sqrt(n)", "that is the variance"),
                     ("t_quantile(n) * s / math.sqrt(n)", "not n: one of the n"),
                     ("t_quantile(max(1, n - 2)) * s / math.sqrt(n)", "took one more off"),
                     ("t_quantile(n - 1) * s / math.sqrt(n) / 2", "to EACH side"),
                     ("t_quantile(n - 1) * math.sqrt(np.square(differences).sum() / (n - 1) / n)", "measured from 0")):
    sure.wrong(f"""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    mean, s = np.mean(differences), np.std(differences, ddof=1)
    reach = {reach}
    return float(mean - reach), float(mean + reach)
""", says=words)
sure.wrong("""
def interval(differences):
    if len(differences) < 2:
        return None
    return np.percentile(differences, 2.5), np.percentile(differences, 97.5)
""", says="95 % of the RUNS")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    reach = t_quantile(n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return np.median(differences) - reach, np.median(differences) + reach
""", says="around the median")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n <= 2:
        return None
    reach = t_quantile(n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return np.mean(differences) - reach, np.mean(differences) + reach
""", says="None is for fewer than two")
sure.wrong("""
def interval(differences):
    if len(differences) < 2:
        return None
    return min(differences), max(differences)
""", says="the lowest and the highest difference")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n < 2:
        return None
    return np.mean(differences), t_quantile(n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
""", says="asked are the two ends")
sure.wrong("""
def interval(differences):
    n = len(differences)
    if n == 1:
        return None
    mean, error = sum(differences) / n, np.std(differences, ddof=1) / math.sqrt(n)
    return mean - t_quantile(n - 1) * error, mean + t_quantile(n - 1) * error
""", says="of no difference at all there is no mean")
sure.wrong("""
def interval(differences):
    n, differences = len(differences), np.abs(differences)
    if n < 2:
        return None
    reach = t_quantile(n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return np.mean(differences) - reach, np.mean(differences) + reach
""", says="do not take abs()")


# ----------------------------------------------------------------------------------------------- report.safe_zone_share

share = Exercise("report.safe_zone_share", hints=(
    "What is one cell here: all runs of one t, or all runs of one seed? And what of a technique is compared in it?",
    "First leave out the rows outside the zone. Then group by (protocol, pruning, density, retrain_fraction), and\n"
    "make of each group two dictionaries, from the seed to the change: of the technique and of fine-tuning. Over the\n"
    "seeds that both have compare the medians, and note True or False. The share is the sum by the number.",
    """
    low, high = SAFE_ZONE
    inside = [row for row in first_runs(rows) if low <= round(row.retrain_fraction, 2) <= high]
    won = []
    for cell in grouped(inside, lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        mine = {row.seed: row.delta for row in cell if row.technique == technique}
        usual = {row.seed: row.delta for row in cell if row.technique == "fine_tuning"}
        both = mine.keys() & usual.keys()
        if both:
            won.append(...)
    return ...
    """))


def cell_at(t, rewinding, tuning, density=0.1):
    """Three seeds of both at one t."""
    return [*runs("lr_rewinding", rewinding, retrain_fraction=t, density=density),
            *runs("fine_tuning", tuning, retrain_fraction=t, density=density)]


@share.check
def test_times_outside_the_zone_do_not_count():
    rows = cell_at(0.5, [0, 0, 0], [-1, -1, -1]) + cell_at(0.1, [-5] * 3, [0] * 3) + cell_at(1.0, [-5] * 3, [0] * 3)
    found = report.safe_zone_share(rows, "lr_rewinding")
    assert found is not None, "there is a cell with both techniques at t/T = 0.5, inside the zone"
    assert np.isclose(found, 1), (
        f"t/T = 0.1 and t/T = 1 lie outside the safe zone, 0.25 to 0.9, and do not count: the share is 1, not {found}")


@share.check
def test_the_medians_are_compared_cell_by_cell():
    rows = cell_at(0.5, [0, 0, -90], [-1, -1, -1]) + cell_at(0.8, [0, 0, 0], [-1, -1, -1])
    rows += cell_at(0.7, [-2, -2, -2], [-1, -1, -1])
    found = report.safe_zone_share(rows, "lr_rewinding")
    assert found is None or found <= 1, f"a share lies between 0 and 1, yours is {found}: divide by the number of cells"
    assert found != 1, (
        "there are three cells, since there are three times, and in one of them rewinding is worse. You threw the "
        "times together: retrain_fraction belongs to what rows are grouped by")
    assert np.isclose(found, 2 / 3), (
        "in one cell the changes are 0, 0, -90 against -1, -1, -1: the median is better, the mean is not. With the two "
        f"others, one better and one worse, the share is 2/3, yours {found}. Compare medians, count cells, not runs")
    apart = cell_at(0.5, [1.0, -5.0, 2.0], [0.0, -4.0, 5.0])
    assert report.safe_zone_share(apart, "lr_rewinding") == 1, (
        "1, -5, 2 against 0, -4, 5: the medians are 1 and 0. You took the median of the differences, seed by seed; "
        "here the two medians are compared, as in the paper's figures")
    less = cell_at(0.5, [-1.2] * 3, [-1.0] * 3)
    assert report.safe_zone_share(less, "lr_rewinding") == 0, (
        "-1.2 is less than -1, and you let it pass as equal. What is allowed for is rounding, 1e-9, and no more")
    tie = cell_at(0.5, [-1.0 - 1e-12] * 3, [-1.0] * 3)
    assert report.safe_zone_share(tie, "lr_rewinding") == 1, (
        "equal is at least as good, and 1e-12 less is equal, but for rounding: allow for 1e-9")
    other = [*runs("weight_rewinding", [-3.0] * 3, retrain_fraction=0.5), *cell_at(0.5, [1.0] * 3, [-1.0] * 3)]
    assert report.safe_zone_share(other, "weight_rewinding") == 0, (
        "weight rewinding was asked for, and it is worse in the only cell: compare the technique that is GIVEN")
    repeat = runs("lr_rewinding", [9.0] * 4, retrain_fraction=0.5, stream=1) + cell_at(0.5, [-3] * 3, [0] * 3)
    assert report.safe_zone_share(repeat, "lr_rewinding") == 0, (
        "you counted repeats (stream 1). They show how large the noise is, nothing else: begin with first_runs(rows)")


@share.check
def test_cells_of_another_density_protocol_or_pruning_are_counted_apart():
    for what, value in (("density", 0.05), ("protocol", "iterative"), ("pruning", "random_mask")):
        rows = cell_at(0.5, [0.0] * 3, [-1.0] * 3)
        rows += [replace(row, **{what: value}) for row in cell_at(0.5, [-30.0] * 5, [-20.0] * 5)]
        found = report.safe_zone_share(rows, "lr_rewinding")
        assert np.isclose(found, 1 / 2), (
            f"runs that differ in their {what} are two cells: in one rewinding is better, in the other worse, which "
            f"makes 1/2; yours {found}. To what rows are grouped by belongs {what}")


@share.check
def test_the_edges_belong_to_the_zone_although_t_is_a_whole_number_of_steps():
    rows = cell_at(0.249466, [-5] * 3, [0] * 3) + cell_at(0.901709, [-5] * 3, [0] * 3) + cell_at(0.5, [1] * 3, [0] * 3)
    found = report.safe_zone_share(rows, "lr_rewinding")
    assert np.isclose(found, 1 / 3), (
        "a quarter of 468 steps is 117 steps, or 0.24947 after rounding: round retrain_fraction to two decimals before "
        f"you compare it with the zone's edges. Here the share is 1/3, yours {found}")


@share.check
def test_without_a_cell_that_has_both_there_is_no_share():
    rows = runs("lr_rewinding", [0.0] * 3, retrain_fraction=0.5) + runs("fine_tuning", [0.0] * 3)
    try:
        found = report.safe_zone_share(rows, "lr_rewinding")
    except (KeyError, ZeroDivisionError) as reason:
        raise AssertionError(f"no cell has both: the answer is None, not a {type(reason).__name__}") from None
    assert found is None, f"no cell has both techniques, so there is nothing to take a share of: None. Yours is {found}"


@share.check
def test_a_seed_with_one_run_only_has_no_say():
    rows = [*runs("lr_rewinding", [0.0, -5.0, -5.0], retrain_fraction=0.5),
            *runs("fine_tuning", [-1.0], retrain_fraction=0.5)]
    assert report.safe_zone_share(rows, "lr_rewinding") == 1, (
        "seeds 1 and 2, with -5, have no run by fine-tuning, and still pulled the median down. As in exercise 3 a seed "
        "that has only one of the two is left out")


share.wrong("""
def safe_zone_share(rows, technique):
    won = []
    for cell in grouped(first_runs(rows), lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        changes = {name: [row.delta for row in members] for name, members in grouped(cell, _technique).items()}
        if technique in changes and "fine_tuning" in changes:
            won.append(np.median(changes[technique]) >= np.median(changes["fine_tuning"]) - 1e-9)
    return sum(won) / len(won) if won else None
""", says="outside the safe zone")
share.wrong("""
def safe_zone_share(rows, technique):
    low, high = SAFE_ZONE
    inside = [row for row in first_runs(rows) if low <= row.retrain_fraction <= high]
    won = []
    for cell in grouped(inside, lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        changes = {name: [row.delta for row in members] for name, members in grouped(cell, _technique).items()}
        if technique in changes and "fine_tuning" in changes:
            won.append(np.median(changes[technique]) >= np.median(changes["fine_tuning"]) - 1e-9)
    return sum(won) / len(won) if won else None
""", says="round retrain_fraction")
share.wrong("""
def safe_zone_share(rows, technique):
    low, high = SAFE_ZONE
    inside = [row for row in first_runs(rows) if low <= round(row.retrain_fraction, 2) <= high]
    won = []
    for cell in grouped(inside, lambda r: (r.protocol, r.pruning, r.density, r.retrain_fraction)).values():
        changes = {name: [row.delta for row in members] for name, members in grouped(cell, _technique).items()}
        if technique in changes and "fine_tuning" in changes:
            won.append(np.mean(changes[technique]) >= np.mean(changes["fine_tuning"]) - 1e-9)
    return sum(won) / len(won) if won else None
""", says="Compare medians")
for begin, group, words in (("rows", ", r.retrain_fraction", "you counted repeats"),
                            ("first_runs(rows)", "", "You threw the times together")):
    share.wrong(f"""
def safe_zone_share(rows, technique):
    low, high = SAFE_ZONE
    inside = [row for row in {begin} if low <= round(row.retrain_fraction, 2) <= high]
    won = []
    for cell in grouped(inside, lambda r: (r.protocol, r.pruning, r.density{group})).values():
        changes = {{name: [row.delta for row in members] for name, members in grouped(cell, _technique).items()}}
        if technique in changes and "fine_tuning" in changes:
            won.append(np.median(changes[technique]) >= np.median(changes["fine_tuning"]) - 1e-9)
    return sum(won) / len(won) if won else None
""", says=words)
SHARE = """
def safe_zone_share(rows, technique):
    low, high = SAFE_ZONE
    won = []
    for cell in grouped([row for row in first_runs(rows) if low <= round(row.retrain_fraction, 2) <= high],
                        lambda row: (row.protocol, row.pruning, row.density, row.retrain_fraction)).values():
        mine = {row.seed: row.delta for row in cell if row.technique == technique}
        usual = {row.seed: row.delta for row in cell if row.technique == "fine_tuning"}
        both = mine.keys() & usual.keys()
        if both:
            won.append(np.median([mine[seed] for seed in both]) >= np.median([usual[seed] for seed in both]) - 1e-9)
    return sum(won) / len(won) if won else None
"""
for right, wrong, words in (
        ("row.density, ", "", "differ in their density"), ("row.protocol, ", "", "differ in their protocol"),
        ("row.pruning, ", "", "differ in their pruning"), ("1e-9", "0.5", "you let it pass as equal"),
        (" - 1e-9", "", "allow for 1e-9"), ("if won else None", "if won else 0.0", "Yours is 0.0"),
        ("row.technique == technique", "row.technique == 'lr_rewinding'", "the technique that is GIVEN"),
        ("np.median([mine[seed] for seed in both]) >= np.median([usual[seed] for seed in both])",
         "np.median([mine[seed] - usual[seed] for seed in both]) >= 0", "You took the median of the differences"),
        ("np.median([mine[seed] for seed in both]) >= np.median([usual[seed] for seed in both])",
         "np.median(list(mine.values())) >= np.median(list(usual.values()))", "still pulled the median down")):
    share.wrong(SHARE.replace(right, wrong), says=words)
