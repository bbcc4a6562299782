"""Facts about the report: medians, intervals, the choice of t, the noise, what it costs, the sentences, the table."""

from dataclasses import replace

import numpy as np
import pytest
from invented import FIVE, ROUNDS, STUDIES, run, study

from minirewind import report
from minirewind.errors import Error

every_study = pytest.mark.parametrize("rows", STUDIES.values(), ids=STUDIES)


# --- Medians, ranges, curves -----------------------------------------------------------------------------------------

def test_the_median_lies_between_lowest_and_highest():
    assert report.median_and_range([3.0, -1.0, 10.0]) == (3.0, -1.0, 10.0)
    assert report.median_and_range(iter([2.0, 1.0])) == (1.5, 1.0, 2.0)
    assert report.median_and_range([7]) == (7.0, 7.0, 7.0)


def test_a_curve_has_the_median_and_range_over_seeds_at_each_compression():
    rows = study(3)
    found = report.curves(rows)
    assert len(found) == 6
    for (protocol, technique, pruning), points in found.items():
        assert [p.compression for p in points] == sorted({1 / 0.8**k for k in ROUNDS})
        for point in points:
            changes = [r.delta for r in rows if (r.protocol, r.technique, r.pruning, r.compression)
                       == (protocol, technique, pruning, point.compression)]
            assert point == (point.compression, np.median(changes), min(changes), max(changes), 3)


def test_the_order_of_the_rows_changes_nothing():
    rows = study(5, times=(0.5, 0.9))
    assert report.curves(rows[::-1]) == report.curves(rows)
    assert report.table(rows[::-1]) == report.table(rows)


# --- The choice of t -------------------------------------------------------------------------------------------------

def test_the_best_t_is_chosen_by_validation_and_never_by_test():
    good_on_test = [run(seed, delta=0.0, t=0.5, validation=90) for seed in range(3)]
    good_on_validation = [run(seed, delta=-5.0, t=0.9, validation=91) for seed in range(3)]
    assert report.best_by_validation(good_on_test + good_on_validation) == good_on_validation
    [[point]] = report.curves(good_on_test + good_on_validation).values()
    assert point.median == -5


def test_the_best_t_is_that_of_the_best_median_not_of_the_best_run():
    steady = [run(seed, t=0.5, validation=v) for seed, v in enumerate([90, 90, 90])]
    lucky = [run(seed, t=0.9, validation=v) for seed, v in enumerate([80, 89, 100])]
    assert report.best_by_validation(lucky + steady) == steady


def test_of_equally_good_times_the_shortest_is_chosen():
    long, short = run(t=0.9, validation=90), run(t=0.25, validation=90)
    assert report.best_by_validation([long, short]) == [short]


def test_in_an_unfinished_study_one_lucky_seed_does_not_choose_the_t():
    complete = [run(seed, t=0.5, validation=v) for seed, v in enumerate([90, 89, 91])]
    assert report.best_by_validation([*complete, run(0, t=0.9, validation=95)]) == complete


def test_the_choice_that_each_had_is_said_where_it_was_not_the_same():
    rows = [run(0, technique, t=t, protocol="iterative") for technique, t in (
        ("fine_tuning", 0.93), ("weight_rewinding", 0.93), ("lr_rewinding", 1.0))]
    assert report.times_of(rows) == "t/T: 0.93 (fine-tuning and weight rewinding), 1 (learning-rate rewinding)"
    rows += [run(0, "lr_rewinding", t=0.93, protocol="iterative")]
    assert report.times_of(rows).endswith(
        "among 0.93 (fine-tuning and weight rewinding), 0.93, 1 (learning-rate rewinding)")
    both = [run(0, technique, t=t) for technique in ("fine_tuning", "lr_rewinding") for t in (0.93, 1.0)]
    assert report.times_of(both).endswith("validation accuracy among 0.93, 1")
    assert report.times_of([*rows[:1], run(t=1.0)]) == "t/T = 1 one-shot, 0.93 iterative"


def test_each_technique_and_density_has_a_best_t_of_its_own():
    cells = (("fine_tuning", 0.5, 1), ("fine_tuning", 0.25, -1), ("lr_rewinding", 0.5, -1))
    rows = [run(0, technique, t=t, density=density, validation=90 + t * sign)
            for technique, density, sign in cells for t in (0.25, 0.9)]
    assert [r.retrain_fraction for r in report.best_by_validation(rows)] == [0.9, 0.25, 0.25]


# --- Differences and intervals ---------------------------------------------------------------------------------------

def test_pairing_is_by_seed():
    a = [run(0, "lr_rewinding", 1.0), run(1, "lr_rewinding", 2.0), run(7, "lr_rewinding", 9.0)]
    b = [run(1, "fine_tuning", -1.0), run(0, "fine_tuning", 0.5), run(3, "fine_tuning", 9.0)]
    pairs = report.paired_differences(a + b, "lr_rewinding", "fine_tuning")
    assert pairs == {("one_shot", "global_magnitude", 0.5): {0: 0.5, 1: 3.0}}


def test_pairs_have_the_same_protocol_pruning_and_density():
    a = [run(0, "lr_rewinding", density=0.5)]
    for other in (run(density=0.25), run(protocol="iterative"), run(pruning="random_mask")):
        assert report.paired_differences([*a, other], "lr_rewinding", "fine_tuning") == {}


def test_each_side_of_a_pair_stands_at_its_best_t():
    rows = [run(0, "lr_rewinding", 1.0, t=0.9, validation=95), run(0, "lr_rewinding", 8.0, t=0.5, validation=94),
            run(0, "fine_tuning", 9.0, t=0.9, validation=94), run(0, "fine_tuning", 0.0, t=0.5, validation=95)]
    [pairs] = report.paired_differences(rows, "lr_rewinding", "fine_tuning").values()
    assert pairs == {0: 1.0}


def test_what_a_seed_adds_to_all_its_runs_cancels_in_the_differences():
    rows = study(4)
    shifted = [replace(row, delta=row.delta + 10 * row.seed) for row in rows]
    before, after = (report.paired_differences(x, "weight_rewinding", "lr_rewinding") for x in (rows, shifted))
    for cell in before:
        np.testing.assert_allclose(list(after[cell].values()), list(before[cell].values()), atol=1e-9)


def test_a_seed_counts_once_and_only_when_it_is_in_every_cell():
    assert report.seed_means({"a": {0: 1.0, 1: 5.0}, "b": {0: 3.0, 2: 7.0}}) == {0: 2.0}
    assert report.seed_means({}) == {}


@pytest.mark.parametrize(("degrees", "quantile"), [
    (1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (5, 2.57058), (6, 2.44691), (9, 2.26216), (10, 2.22814),
    (29, 2.04523), (30, 2.04227), (120, 1.97993)])
def test_the_t_quantiles_are_those_of_the_printed_tables(degrees, quantile):
    assert report.t_quantile(degrees) == pytest.approx(quantile, rel=3e-6)


def test_other_levels_are_those_of_the_printed_tables():
    assert report.t_quantile(4, 0.99) == pytest.approx(4.60409, rel=3e-6)
    assert report.t_quantile(7, 0.90) == pytest.approx(1.89458, rel=3e-6)


def test_an_interval_is_the_mean_plus_minus_t_standard_errors():
    differences = [0.3, -0.1, 0.8, 0.4, 0.6]
    reach = 2.776445 * np.std(differences, ddof=1) / np.sqrt(5)
    assert report.interval(differences) == pytest.approx((0.4 - reach, 0.4 + reach), rel=1e-6)


def test_an_interval_over_five_seeds_holds_the_truth_19_times_in_20():
    random = np.random.default_rng(3)
    held = [low < 1.5 < high for low, high in (report.interval(x) for x in random.normal(1.5, 2.0, (2000, 5)))]
    assert 0.935 < np.mean(held) < 0.965


def test_there_is_no_interval_under_two_seeds():
    assert report.interval([]) is None
    assert report.interval([1.0]) is None
    assert report.interval([1.0, 1.0]) == (1.0, 1.0)


# --- The safe zone ---------------------------------------------------------------------------------------------------

def test_the_safe_zone_counts_cells_in_which_the_median_is_at_least_that_of_fine_tuning():
    def cell(t, change):
        return [run(seed, technique, delta, t=t) for seed in range(3)
                for technique, delta in (("fine_tuning", -1.0), ("lr_rewinding", change + (seed == 0)))]

    rows = cell(0.25, -1.0) + cell(0.5, 0.0) + cell(0.9, -1.1) + cell(0.1, 5.0) + cell(1.0, 5.0)
    assert report.safe_zone_share(rows, "lr_rewinding") == pytest.approx(2 / 3)
    assert report.safe_zone_share(rows, "fine_tuning") == 1


def test_a_t_of_whole_steps_still_belongs_to_the_zone():
    rows = [run(0, name, t=57586 / 63984) for name in ("fine_tuning", "lr_rewinding")]
    assert report.safe_zone_share(rows, "lr_rewinding") == 1


def test_the_safe_zone_compares_the_seeds_that_have_both():
    rows = [run(0, "fine_tuning", -5.0), run(0, "lr_rewinding", -4.0), run(1, "fine_tuning", 0.0),
            run(2, "fine_tuning", 0.0)]
    assert report.safe_zone_share(rows, "lr_rewinding") == 1


def test_without_fine_tuning_there_is_no_share():
    assert report.safe_zone_share([run(0, "lr_rewinding")], "lr_rewinding") is None
    assert report.safe_zone_share([run(t=0.1), run(0, "lr_rewinding", t=0.1)], "lr_rewinding") is None


# --- The sentences ---------------------------------------------------------------------------------------------------

def five_seeds(changes, seeds=5, density=0.1):
    """Runs with a small wobble of their own around each technique's change."""
    random = np.random.default_rng(1)
    return [run(seed, technique, change + random.normal() / 10, density=density)
            for seed in range(seeds) for technique, change in changes.items()]


def test_a_winner_is_named_where_five_seeds_prove_it():
    [sentence] = report.findings(five_seeds({"fine_tuning": -9, "weight_rewinding": -2, "lr_rewinding": -1}))
    assert sentence.startswith("One-shot: learning-rate rewinding wins")
    assert "5 seeds" in sentence


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_no_winner_is_named_under_five_seeds_however_clear(seeds):
    [sentence] = report.findings(five_seeds({"fine_tuning": -90, "lr_rewinding": 0}, seeds))
    assert "wins" not in sentence
    assert "better" not in sentence
    assert f"{5 - seeds} more seed" in sentence
    assert "--seeds 5" in sentence


def test_techniques_that_are_equal_are_not_told_apart():
    [sentence] = report.findings(five_seeds({"weight_rewinding": -1, "lr_rewinding": -1.01}))
    assert "no winner" in sentence
    assert "not told apart" in sentence


def test_the_best_of_two_equals_is_better_than_the_third_but_no_winner():
    [sentence] = report.findings(five_seeds({"fine_tuning": -9, "weight_rewinding": -1, "lr_rewinding": -1.01}))
    assert "no single winner" in sentence
    assert "better than fine-tuning (+8." in sentence
    assert "wins" not in sentence


def test_many_compressions_are_no_substitute_for_seeds():
    rows = [row for k in range(20) for row in five_seeds({"fine_tuning": -9, "lr_rewinding": 0}, 2, 0.8**k)]
    assert "3 more seeds" in " ".join(report.findings(rows))


def test_a_seed_that_is_not_finished_proves_nothing_yet():
    rows = five_seeds({"fine_tuning": -9, "lr_rewinding": 0}, 5, 0.5)
    rows += five_seeds({"fine_tuning": -9, "lr_rewinding": 0}, 4, 0.1)
    assert "4 complete seeds" in " ".join(report.findings(rows))


def test_a_verdict_belongs_to_its_protocol():
    clear = five_seeds({"fine_tuning": -9, "lr_rewinding": 0})
    thin = [replace(row, protocol="iterative") for row in clear if row.seed < 2]
    one_shot, iterative = report.findings(clear + thin)
    assert one_shot.startswith("One-shot: learning-rate rewinding wins")
    assert iterative.startswith("Iterative: differences are shown, not proven")


def test_a_technique_that_stands_alone_is_told_without_any_so_far():
    rows = [run(seed, "lr_rewinding", delta, protocol="iterative", t=1.0, density=0.8**2)
            for seed, delta in enumerate((-1.0, -1.4, 0.2))]
    assert report.findings(rows) == [
        "Iterative: learning-rate rewinding alone loses 1.0 point at 1.56x (median over 3 seeds)."]


@pytest.mark.parametrize(("changes", "said"), [
    ({"fine_tuning": -3.2, "lr_rewinding": -1.4}, "learning-rate rewinding loses 1.4 points and fine-tuning 3.2."),
    ({"fine_tuning": -3.2, "lr_rewinding": 1.0},
     "learning-rate rewinding gains 1.0 point and fine-tuning loses 3.2 points."),
    ({"fine_tuning": 0.0}, "fine-tuning changes nothing."),
])
def test_the_headline_has_the_medians_at_the_highest_shared_compression(changes, said):
    rows = [run(seed, name, change, density=0.01) for seed in range(3) for name, change in changes.items()]
    rows += [run(0, "fine_tuning", -50.0, density=0.0005)] * (len(changes) > 1)
    assert report.headline(rows) == f"One-shot, with 100 times fewer weights, {said}"


# --- The noise -------------------------------------------------------------------------------------------------------

def test_the_noise_is_the_second_run_minus_the_first_seed_by_seed():
    first = [run(seed, "lr_rewinding", float(seed), t=1.0) for seed in range(3)]
    again = [replace(row, stream=1, delta=row.delta + gap) for row, gap in zip(first, (0.4, -0.2, 0.1))]
    other = replace(again[0], technique="fine_tuning")                          # has no first run
    assert report.noise([*first, *again, other]) == pytest.approx({0: 0.4, 1: -0.2, 2: 0.1})
    assert "by +0.10 points on average, standard deviation 0.30, from -0.20 to +0.40 (3 seeds, A/A)" in \
        " ".join(report.findings(first + again))


def test_repeats_for_the_noise_change_nothing_else():
    rows = study(5, times=(0.5, 1.0))
    again = [replace(row, stream=1, delta=-50.0, validation_accuracy=100.0, multiply_adds=1) for row in rows]
    assert report.curves(rows + again) == report.curves(rows)
    assert report.paired_differences(rows + again, "lr_rewinding", "fine_tuning") == \
        report.paired_differences(rows, "lr_rewinding", "fine_tuning")
    assert report.safe_zone_share(rows + again, "lr_rewinding") == report.safe_zone_share(rows, "lr_rewinding")
    assert report.costs(rows + again) == report.costs(rows)
    assert report.table(rows + again).startswith(report.table(rows)[:-1])


# --- Against t, and what it costs ------------------------------------------------------------------------------------

def test_against_t_each_time_has_its_own_median():
    rows = [run(seed, t=t, delta=10 * t + seed) for seed in range(3) for t in (0.9, 0.25)]
    [lines] = report.at_each_t(rows).values()
    assert lines == {"fine_tuning": [(0.25, 3.5, 2.5, 4.5, 3), (0.9, 10.0, 9.0, 11.0, 3)]}
    assert report.at_each_t([run(), run(0, "lr_rewinding")]) == {}


def test_the_algorithm_is_iterative_and_repeats_the_whole_schedule():
    row = run(0, "lr_rewinding", t=1.0, protocol="iterative")
    others = [replace(row, retrain_fraction=0.9), replace(row, protocol="one_shot"), replace(row, stream=1),
              replace(row, technique="fine_tuning"), replace(row, pruning="random_mask")]
    assert report.the_algorithm([row, *others]) == [row]


def test_a_speed_up_is_dense_by_pruned_multiply_adds():
    rows = [replace(run(seed), multiply_adds=adds, dense_multiply_adds=1200)
            for seed, adds in enumerate((300, 400, 600))]
    assert report.speed_ups(rows) == {("one_shot", "fine_tuning", "global_magnitude"): [(2.0, 3.0, 2.0, 4.0, 3)]}


def test_a_cost_is_that_of_all_rounds_at_the_highest_compression():
    rows = [run(seed, "lr_rewinding", t=1.0, protocol="iterative", density=0.8**i) for seed in range(2) for i in (1, 5)]
    [cost] = report.costs(rows)
    assert (cost.compression, cost.search_steps, cost.trainings) == (1 / 0.8**5, 5 * 450, 5.0)


def test_the_dense_training_has_as_many_steps_whatever_was_run():
    assert report.dense_steps([run(t=0.5), run(0, "reinitialize", t=0.9)]) == 450
    # t/T as results.csv has it, with six digits
    paper = [replace(run(t=round(t / 63985, 6)), retrain_steps=t) for t in (64, 127, 10557)]
    assert report.dense_steps(paper) == 63985


# --- The table -------------------------------------------------------------------------------------------------------

@every_study
@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_the_width(rows, width):
    assert max(map(len, report.table(rows, width).splitlines())) <= width


@every_study
def test_the_table_fits_100_columns_unasked(rows):
    assert max(map(len, report.table(rows).splitlines())) <= 100


def test_the_three_techniques_stand_side_by_side_in_80_columns():
    assert "fine-tuning            weight rewinding       learning-rate rewinding" in report.table(study(3, **FIVE), 80)


def test_the_table_prints_with_one_row_and_with_none():
    assert "2x   +0.0\n" in report.table([run()])
    assert report.table([]) == "No pruned run is finished yet."


def test_an_entry_is_median_and_range_and_the_best_has_a_star():
    rows = [run(seed, technique, delta) for technique, deltas in
            {"fine_tuning": (-1.8, -1.2, -0.4), "lr_rewinding": (-0.2, 0.0, 0.2)}.items()
            for seed, delta in enumerate(deltas)]
    [line] = [line for line in report.table(rows).splitlines() if line.startswith("2x")]
    assert line.split("  ") == ["2x", " -1.2", "[-1.8, -0.4]", " +0.0* [-0.2, +0.2]"]


@pytest.mark.parametrize(("compression", "printed"), [
    (1.25, "1.25"), (9.3132, "9.31"), (28.42, "28.4"), (256, "256"), (999.6, "1000"), (1060.2, "1060"),
    (123456.0, "123000"), (4e7, "40000000")])
def test_a_compression_is_never_a_power_of_ten(compression, printed):
    assert report.short(compression) == printed
    assert f"{printed}x" in report.table([run(density=1 / compression)])


def test_names_of_ones_own_are_shown_as_they_are():
    assert report.label("my_technique") == "my technique"
    assert report.label("package.module:half_rewinding") == "half rewinding"


def test_entries_that_print_alike_are_starred_alike():
    rows = [run(0, "fine_tuning", 0.1), run(0, "lr_rewinding", 0.1 + 1e-12)]
    assert report.table(rows).count("+0.1*") == 2


def test_hundredths_are_shown_where_the_test_set_has_them():
    assert "-1.20" not in report.table([run(delta=-1.2)])
    assert "-1.23" in report.table([run(delta=-1.23)])


def test_a_cell_that_is_not_finished_is_a_dash_and_a_single_seed_has_no_range():
    rows = [run(0, "fine_tuning", -1.0), run(1, "fine_tuning", -2.0), run(0, "lr_rewinding", -1.0, density=0.25)]
    lines = report.table(rows).splitlines()
    assert [line.split() for line in lines if line.startswith(("2x", "4x"))] == \
        [["2x", "-1.5", "[-2.0,", "-1.0]", "-"], ["4x", "-", "-1.0"]]
    assert "1 to 2 seeds" in lines[0]


def test_the_header_has_the_median_dense_accuracy_over_seeds():
    rows = [run(seed, technique, dense=dense) for seed, dense in enumerate((90.0, 97.0, 98.0))
            for technique in ("fine_tuning", "lr_rewinding")]
    assert "97.0 %" in report.table([*rows, run(0, "fine_tuning", density=0.25, dense=90.0)])


def test_rows_of_two_networks_are_refused():
    with pytest.raises(Error, match="one network"):
        report.table([run(), replace(run(), network="resnet20")])
    with pytest.raises(Error, match="no finished run"):
        report.title_of([])
