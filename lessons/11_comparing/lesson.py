# %% [markdown]
# # 11 · Comparing fairly: seeds, pairs, intervals, the safe zone
#
# **Time** 75 minutes · **You need** lessons 09 and 10 · **Paper** its figures: medians of three trials, bars from the
# lowest to the highest, the best retraining time chosen by validation, and the "safe zone"
#
# **New words:** paired difference, interval, safe zone
#
# Somebody shows you two numbers. One network was retrained by rewinding its weights, and lost 1.8 points. The same
# network was retrained by rewinding the learning rate, and lost 0.4. *So the second way is better.*
#
# Is it? In this lesson you will believe that sentence for about five minutes. Then you will find out how many of the
# sentences that you have read about networks are like it, and what can be said instead.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures, report
from minirewind.learn import exercise

exercise.begin("11_comparing")

# %% [markdown]
# ## 1. One run each
#
# Lessons 09 and 10 took their numbers from one or two dense networks. Here are ten: ten seeds, each trained, pruned to
# a seventh and to a fifteenth of its weights, and retrained in three ways, for five different times. That is 300 runs.
# They were made with the command `minirewind compare benchmarks/studies/seeds.toml`, and the results lie beside this
# lesson.

# %%
everything = mr.study.read_results(exercise.lessons / "11_comparing" / "runs.csv")
rows = report.first_runs(everything)            # the others are for section 5
print(len(rows), "runs. The first one:")
print(rows[0])

# %% [markdown]
# A row is one run. `delta` is what counts: the accuracy on the test images minus that of the dense network *of the same
# seed*, in points. This small function picks out the changes of one way of retraining, by seed:

# %%
FIFTEENTH, SEVENTH = (max(row.compression for row in rows), min(row.compression for row in rows))


def changes(technique, compression=FIFTEENTH, t=0.9):
    """The change in accuracy of each seed."""
    return {row.seed: row.delta for row in rows
            if (row.technique, row.compression) == (technique, compression) and abs(row.retrain_fraction - t) < 0.01}


weight, rate = changes("weight_rewinding"), changes("lr_rewinding")
print(f"seed 0, a fifteenth of the weights: weight rewinding {weight[0]:+.1f}, learning-rate rewinding {rate[0]:+.1f}")

# %% [markdown]
# Same dense network, same mask, same images in the same order, same number of steps. Nothing is unfair here. And the
# difference is large: on 500 test images, seven more are read correctly.
#
# **Predict:** the experiment is repeated with nine other seeds. In how many of the ten is learning-rate rewinding
# better?

# %%
prediction = None       # a number from 1 to 10

exercise.reveal(prediction, sum(rate[seed] > weight[seed] for seed in rate))

# %%
COLOURS = {name: report.LOOKS[name].colour for name in ("fine_tuning", "weight_rewinding", "lr_rewinding")}


def picture_of_seeds(*techniques, compression=FIFTEENTH, seeds=10):
    """Each seed's runs as dots, joined by a line."""
    found = [changes(name, compression) for name in techniques]
    axis = plt.figure(figsize=(5, 3.4), layout="constrained").gca()
    for seed in sorted(found[0])[:seeds]:
        axis.plot(range(len(found)), [each[seed] for each in found], "-", color="#999999", linewidth=1)
    for place, (name, each) in enumerate(zip(techniques, found)):
        values = list(each.values())[:seeds]
        axis.plot([place] * len(values), values, "o", color=COLOURS[name], markeredgecolor=pictures.INK, alpha=0.8)
    axis.set_xticks(range(len(found)), [report.label(name) for name in techniques])
    axis.set(ylabel="change in accuracy, points", xlim=(-0.5, len(found) - 0.5))
    plt.show()


picture_of_seeds("weight_rewinding", "lr_rewinding")

# %% [markdown]
# A line that rises is a seed in which learning-rate rewinding was better. Had you happened to begin with another seed,
# you would have told the opposite story, and just as honestly. **One run is an anecdote.** The seed decides the first
# weights and the order of the images, and that alone moves the result by a point or two.
#
# ## 2. Many runs in three numbers
#
# How do you write down ten numbers in one line? The paper gives three: the **median** (sort them, and take the one in
# the middle), the lowest and the highest. Why not the mean? Because one run that went wrong would move it, and in this
# field there is always one.
#
# ### Exercise 1: `median_and_range`
#
# `values` is anything that can be looped over, once (a generator, perhaps). NumPy knows the median.

# %%
@exercise.implement("report.median_and_range")
def median_and_range(values):
    """The median, the lowest and the highest value; the paper's way to sum up its trials."""
    raise NotImplementedError           # two lines


# %%
def picture_of_bars(seeds):
    """The three ways as the paper draws them: the median, and a bar from the lowest to the highest."""
    axis = plt.figure(figsize=(6, 3.4), layout="constrained").gca()
    for place, (name, colour) in enumerate(COLOURS.items()):
        for side, compression in ((-0.12, SEVENTH), (0.12, FIFTEENTH)):
            values = list(changes(name, compression).values())[:seeds]
            middle, low, high = report.median_and_range(values)
            axis.plot([place + side] * 2, [low, high], color=pictures.INK, linewidth=1)
            axis.plot(place + side, middle, "o", color=colour, markeredgecolor=pictures.INK, markersize=9)
            axis.annotate(f"{middle:+.1f}", (place + side, middle), (7, -3), textcoords="offset points", fontsize=8)
    axis.set_xticks(range(3), [report.label(name) for name in COLOURS])
    axis.set(ylabel="change in accuracy, points", ylim=(-19, 2.5), xlim=(-0.5, 2.6),
             title=f"{seeds} seed{'s' * (seeds > 1)}; left a seventh of the weights, right a fifteenth")
    plt.show()


pictures.slide(picture_of_bars, seeds=(1, 10, 3))

# %% [markdown]
# Move the slider. The bars grow with the number of seeds: with more runs you see more of what can happen. So a short
# bar can mean a sure thing, or few runs. **Always say how many.**
#
# ## 3. Which retraining time?
#
# Each way of retraining was tried for five times $t$, from a tenth of the training to all of it. Which of the five do
# we show? Weight rewinding may like another one than fine-tuning, so let each have its best. That is fair. But *best*
# by which numbers?
#
# **Predict:** for every seed, take the $t$ with the best result on the test images. And then the $t$ with the best
# result on the *validation* images (those that were kept aside to choose by, lesson 06), and look what the test images
# say of that one. By how many points do the first numbers look better, on average?

# %%
prediction = None       # points

flattery = []
for runs in report.grouped(rows, lambda row: (row.seed, row.technique, row.compression)).values():
    by_test = max(runs, key=lambda row: row.accuracy)
    by_validation = max(runs, key=lambda row: row.validation_accuracy)
    flattery.append(by_test.delta - by_validation.delta)
exercise.reveal(prediction, round(float(np.mean(flattery)), 2))

# %% [markdown]
# These points do not exist. Whoever picks the best of five by the test images picks the best *luck* of five, and
# reports it. It can never come out below zero, not even if all five times were equally good. The more you try, the more
# it flatters. So the test images have no say in any choice.
#
# You have just used `report.grouped(items, key)`: it sorts things into a dictionary, one list for each value of the
# key.
#
# ### Exercise 2: `best_by_validation`
#
# Runs belong together if they have the same protocol, technique, pruning method and density. Of each such group keep
# the rows of one $t$: the one whose **median validation accuracy** over the seeds is the highest; of equal ones the
# shortest. Return the kept rows in their old order. Rows that are repeats (section 5) do not count:
# `first_runs(rows)` leaves them out.
#
# One $t$ for all seeds of a group, not one for each seed: someone who uses the method has to decide once. (The
# framework's own has one line more, for studies that still run: a $t$ has no say before all of its seeds are done.)

# %%
@exercise.implement("report.best_by_validation")
def best_by_validation(rows):
    """The rows at the best t of each (protocol, technique, pruning, density): that of the highest median validation
    accuracy, the shortest of equals. Test accuracy has no say, or the test set would no longer be one.
    """
    raise NotImplementedError           # eight lines or so


# %%
best = report.best_by_validation(rows)
for (technique, compression), runs in report.grouped(best, lambda row: (row.technique, row.compression)).items():
    middle, low, high = report.median_and_range(row.delta for row in runs)
    print(f"{compression:5.1f}x  {report.label(technique):24} t/T = {runs[0].retrain_fraction:.2f}   "
          f"{middle:+6.1f} [{low:+.1f}, {high:+.1f}]")

# %% [markdown]
# This is a line of the paper's tables, and the table that `minirewind compare` prints. It is made by your two functions
# now.
#
# ## 4. Pairs
#
# A small question: fine-tuning for *all* of the training time instead of nine tenths of it. Is that worth the last
# tenth? Here are both, ten seeds each.

# %%
shorter, longer = changes("fine_tuning", t=0.9), changes("fine_tuning", t=1.0)
for name, each in (("nine tenths", shorter), ("all of it", longer)):
    middle, low, high = report.median_and_range(each.values())
    print(f"{name:12} {middle:+6.1f} [{low:+.1f}, {high:+.1f}]")

# %% [markdown]
# The bars are ten points long, and the medians are closer to each other than one point. Most people would say: no
# difference to be seen. **Predict:** in how many of the ten seeds is the longer one at least as good?

# %%
prediction = None       # a number from 0 to 10

exercise.reveal(prediction, sum(longer[seed] >= shorter[seed] for seed in longer))

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for seed in shorter:
    left.plot([0, 1], [shorter[seed], longer[seed]], "o-", color=pictures.INK, linewidth=1, markersize=5)
left.set_xticks([0, 1], ["nine tenths", "all of it"])
left.set(ylabel="change in accuracy, points", xlim=(-0.4, 1.4), title="the runs, joined by seed")
right.axhline(0, color=pictures.PALE)
right.plot(sorted(longer), [longer[seed] - shorter[seed] for seed in sorted(longer)], "o", color=pictures.WARM)
right.set(xlabel="seed", ylabel="points", title="all of it minus nine tenths")
plt.show()

# %% [markdown]
# The large differences are **between the dense networks**: some of them are hard to fine-tune, some are easy, whatever
# you do. Between the two ways there is a small difference, and in all ten seeds it has the same sign. Both runs of a
# seed begin from the same dense network, so take the difference *seed by seed*, and what made that network good or bad
# is gone. That is a **paired difference**. It is the cheapest trick in the science of experiments, and it is why this
# framework trains one dense network per seed and lets all ways of retraining begin from it.
#
# ### Exercise 3: `paired_differences`
#
# For two techniques `a` and `b`, each at its best $t$: the change of `a` minus the change of `b`. The result is a
# dictionary of dictionaries: for each *cell* the differences by seed. `cell_of(row)` gives the cell, (protocol,
# pruning, density). A seed that has only one of the two runs cannot be paired, so leave it out.

# %%
@exercise.implement("report.paired_differences")
def paired_differences(rows, a, b):
    """Technique a minus technique b, seed by seed, in each (protocol, pruning, density), each at its best t.

    Runs of one seed start from the same dense network: what made it good or bad cancels in the difference. To compare
    at one t, give the rows of that t.
    """
    raise NotImplementedError           # six lines or so


# %%
tenths = [row for row in rows if abs(row.retrain_fraction - 0.9) < 0.01]
for a, b in (("lr_rewinding", "fine_tuning"), ("lr_rewinding", "weight_rewinding")):
    for (_, _, density), pairs in report.paired_differences(tenths, a, b).items():
        values = " ".join(f"{value:+5.1f}" for value in pairs.values())
        print(f"{1 / density:5.1f}x  {report.label(a)} minus {report.label(b):17} {values}")

# %% [markdown]
# Read the four lines. Of which would you say: *I am sure*? Of which not?
#
# ## 5. How sure?
#
# Ten differences $d_1 \dots d_n$ with the mean $m$. If we made ten other seeds, we would get another mean. How far away
# might it be? They differ among each other by their standard deviation
#
# $$s = \sqrt{\tfrac{1}{n-1} \textstyle\sum (d_i - m)^2},$$
#
# and the mean of $n$ of them is less uncertain than one of them, by $\sqrt n$. So the true difference lies somewhere
# around $m$, within a few times $s / \sqrt n$. How many times? For very many seeds 1.96 times, if you want to be right
# in 95 of 100 cases. For few seeds more, since $s$ itself is only guessed from them:

# %%
for n in (2, 3, 5, 10, 30, 1000):
    print(f"{n:5} seeds: {report.t_quantile(n - 1):6.2f} times s / sqrt(n)")

# %% [markdown]
# For two seeds 12.7 times! This table was found by a man who tested barley for a brewery, and could not brew a thousand
# times.
#
# ### Exercise 4: `interval`
#
# The 95 % **interval** of the mean: from $m - q\,s/\sqrt n$ to $m + q\,s/\sqrt n$, with $q$ from `t_quantile(n - 1)`.
# NumPy's `std` divides by $n$ unless you say `ddof=1`. From one difference nothing can be said: `None`.

# %%
@exercise.implement("report.interval")
def interval(differences):
    """Student's 95 % interval for the mean of independent differences; None where there are fewer than two."""
    raise NotImplementedError           # five or six lines


# %%
def picture_of_intervals(seeds):
    """Both questions, with so many seeds."""
    axis = plt.figure(figsize=(6.5, 2.8), layout="constrained").gca()
    axis.axvline(0, color=pictures.INK, linewidth=1)
    for place, other in enumerate(("fine_tuning", "weight_rewinding")):
        for _, pairs in list(report.paired_differences(tenths, "lr_rewinding", other).items())[:1]:
            values = [pairs[seed] for seed in sorted(pairs)][:seeds]
            low, high = report.interval(values) or (np.nan, np.nan)
            colour = pictures.WARM if low > 0 or high < 0 else "#999999"
            axis.plot([low, high], [place] * 2, color=colour, linewidth=6, alpha=0.7)
            axis.plot(values, [place + 0.22] * len(values), "|", color=pictures.INK)
            axis.plot(np.mean(values), place, "o", color=pictures.INK)
    axis.set_yticks([0, 1], ["minus fine-tuning", "minus weight rewinding"])
    axis.set(xlim=(-12, 24), ylim=(-0.5, 1.6), xlabel="learning-rate rewinding minus the other, points",
             title=f"a fifteenth of the weights, {seeds} seeds")
    plt.show()


pictures.slide(picture_of_intervals, seeds=(2, 10, 3))

# %% [markdown]
# Orange means that the whole interval lies on one side of zero: *a difference was shown*. Grey means that it was **not
# shown**. It does not mean that there is none. With two seeds, not even a gap of ten points is shown. Find the number
# of seeds from which the lower bar stays orange.
#
# Is the machinery honest? There is a test that every experiment should take: compare a thing **with itself**. In this
# study one run of each seed was made a second time: the same network, the same mask, the same way of retraining, only
# other batches. It is called a **repeat** (`stream` is 1 in its row). Whatever difference comes out is noise.

# %%
noise = report.noise(everything)
print("a run minus its own repeat:", " ".join(f"{value:+.1f}" for value in noise.values()))
low, high = report.interval(list(noise.values()))
print(f"mean {np.mean(list(noise.values())):+.2f}, interval [{low:+.2f}, {high:+.2f}]")
print(f"largest difference of one seed: {max(map(abs, noise.values())):.1f} points")

# %% [markdown]
# Compare the last number with the difference that this lesson began with.
#
# ## 6. The safe zone
#
# Back to the retraining time. You have five of them, and both ways of rewinding beside fine-tuning at each.

# %%
axis = plt.figure(figsize=(7, 3.6), layout="constrained").gca()
axis.axvspan(*report.SAFE_ZONE, color=pictures.PALE, alpha=0.3)
times = sorted({row.retrain_fraction for row in rows})
for (name, colour), width in zip(COLOURS.items(), (6, 3.5, 1.5)):       # where they are one, all three can be seen
    summary = [report.median_and_range(changes(name, t=t).values()) for t in times]
    middle, low, high = map(np.array, zip(*summary))
    axis.errorbar(times, middle, (middle - low, high - middle), color=colour, marker="o", linewidth=width,
                  markersize=width + 4, capsize=width + 2, label=report.label(name))
axis.set(xlabel="retraining time t/T", ylabel="change in accuracy, points", title="a fifteenth of the weights")
axis.legend()
plt.show()

# %% [markdown]
# On the left all three are as good as one. Why? (Lesson 09 knows: the learning rate has already fallen for the last
# time. There is no rate to rewind, and at that rate the weights had hardly moved since.) On the far right, weight
# rewinding goes back to the very first weights, and on larger networks that ends badly. The paper found that between a
# quarter and nine tenths of the training time both ways of rewinding are at least as good as fine-tuning, on all its
# networks. It called that the **safe zone**; it is shaded.
#
# "At least as good, always" is a strong sentence. A weaker one, that can be checked: *in which share of the cells?*
#
# ### Exercise 5: `safe_zone_share`
#
# Look only at rows whose `retrain_fraction`, rounded to two decimals ($t$ is a whole number of steps), is from
# `SAFE_ZONE[0]` to `SAFE_ZONE[1]`. Group them by (protocol, pruning, density, retrain fraction). In each group compare
# the **median** change of `technique` with that of `"fine_tuning"`, both over the seeds that have both. A group without
# such a seed does not count. The share of groups in which it is at least as good (allow for $10^{-9}$, numbers are
# rounded), or `None` if there is no group. Repeats do not count here, either.

# %%
@exercise.implement("report.safe_zone_share")
def safe_zone_share(rows, technique):
    """In which share of the (protocol, pruning, density, t) cells with t/T in the safe zone, 0.25 to 0.9, the median of
    `technique` is at least that of fine-tuning, over the seeds that have both; None where no cell has any.
    """
    raise NotImplementedError           # ten lines or so


# %%
for name in ("weight_rewinding", "lr_rewinding"):
    print(f"{report.label(name):24} {report.safe_zone_share(rows, name):.0%} of the cells")

# %% [markdown]
# Always, then, in this small study. And in the paper's own? The framework carries the numbers that its figures for
# CIFAR-10 are drawn from, medians of three runs. Your function can read them, if each of them is made a row.
#
# **Predict:** in which share of *their* cells is learning-rate rewinding at least as good as fine-tuning?

# %%
prediction = None       # a share from 0 to 1


def of_the_paper(network):
    """The paper's medians for one of its networks, as rows."""
    return [dataclasses.replace(rows[0], network=network, protocol=point.protocol, technique=point.technique,
                                density=1 / point.compression, retrain_fraction=point.retrain_fraction,
                                delta=point.median)
            for point in mr.published.points() if (point.source, point.network) == ("paper", network)]


shares = {(network, name): report.safe_zone_share(of_the_paper(network), name)
          for network in ("resnet20", "resnet56", "resnet110") for name in ("weight_rewinding", "lr_rewinding")}
exercise.reveal(prediction, round(float(np.mean([share for (_, name), share in shares.items()
                                                 if name == "lr_rewinding"])), 2))
for (network, name), share in shares.items():
    print(f"{network:10} {report.label(name):24} {share:.0%} of the cells")

# %% [markdown]
# So "always" is not quite what the numbers say: "mostly" is, and of learning-rate rewinding "nearly always". Nearly all
# of the other cells lie where less than four fifths of the weights were pruned. There is little to win there, and the
# median of three runs falls to either side.
#
# ## 7. What may be said
#
# The framework has a function that writes the sentences under a study's table. It uses what you wrote, and it has one
# rule: *a winner is named only if the whole interval lies on one side, over at least five seeds.* First the runs with
# nine tenths of the training time, as they would look after two seeds; then with ten; then all 300 runs, each way at
# its own best time:

# %%
for title, some in (("two seeds, nine tenths", [row for row in tenths if row.seed < 2]),
                    ("ten seeds, nine tenths", tenths), ("ten seeds, each at its best time", rows)):
    print(title)
    for sentence in report.findings(some):
        print("  ", sentence)

# %% [markdown]
# Go back to the sentence of the beginning: *the second way is better.* It said so from one run, by 1.4 points. After
# ten seeds at the same time it was *not shown*. Only all the runs together show it, and what they show is half a
# point, on digits, with this small network. The first sentence had the right sign by luck, and the wrong size.
#
# And the other one, *rewinding is better than fine-tuning*? For that, five seeds would have done.
#
# **Try it wrong.** In exercise 2 choose by the test images, with `row.accuracy` in the place of
# `row.validation_accuracy`, and read what the check says. Then `exercise.use_anyway("report.best_by_validation")`, and
# run the last cell again. The winner is gone! Nothing was trained, and no number in any row has changed. Weight
# rewinding was only allowed to look at the test images before it said which time it likes best. Five points against
# fine-tuning stand, whoever chooses. Half a point hangs on how somebody chose. `exercise.reset_session()` puts
# everything right.

# %% [markdown]
# ## What you built
#
# - `median_and_range`, `best_by_validation`: a line of the table, with nothing chosen by the test images.
# - `paired_differences`, `interval`: what is the difference, and how sure is it?
# - `safe_zone_share`: "always", as a number.
#
# Every table, figure and page that `minirewind compare` makes is computed with them now.

# %%
exercise.status("11")

# %% [markdown]
# ## A further question
#
# You looked at two compressions and five times: ten cells. Suppose that two methods are in truth equally good, and in
# each cell you ask whether the 95 % interval lies on one side of zero. How likely is it that at least one of the ten
# does? (It is not 5 %.) What would you have to write down *before* the experiment, so that nobody, not even you, can
# pick that cell afterwards?
