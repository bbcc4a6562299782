# %% [markdown]
# # 14 · Your own network
#
# **Time** 90 minutes, and as long as you let your computer work · **You need** the course · **Paper** all of it: you do
# on a network of your own what it did on its own
#
# **New words:** capstone, study file
#
# The paper compared three ways of retraining on the networks that everybody uses. Nobody has ever compared them on
# *your* network, with *your* images, and with the idea that you may have had in lesson 09. So what comes out, once you
# have put in something of your own, is not known to anybody.
#
# It is the capstone of the course. There is little to learn in it. It shows the way **from one file to a page that you
# can show to others**, and what to look at on the way. Sections 1 to 6 go it once, with ideas of ours. Section 7 is for
# yours: a question first, then four lines of code, then a study. So keep an eye open on the way: what would *you* try?

# %%
import importlib
import json
import sys
import time

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import cli, functional, learn, pictures
from minirewind.data import Data, Split
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("14_your_own")

# %% [markdown]
# ## 1. Your images
#
# A data set is six arrays: images and labels to learn from, to choose by, and to report. Images are (N, C, H, W). We
# take the digits again, but with labels of our own: **is it even or odd?** A network cannot answer that from the shape
# of one stroke. It must know all ten digits, and forget which one it was.
#
# (Photographs of yours? Any program that reads them gives you arrays of (H, W, 3), numbers from 0 to 255. Stack them,
# then `.transpose(0, 3, 1, 2)`. Lesson 01 knows what that does, and that it costs nothing.)

# %%
digits = mr.data.load("digits")


def odd(split):
    return Split(split.images, split.labels % 2)


data = Data(odd(digits.train), odd(digits.validation), odd(digits.test), classes=2,
            pad=1,                          # in training an image may be shifted by one pixel, as in lesson 06
            name="odd-digits")
print(data.train, data.validation, data.test)
pictures.images(data.train.images[:10], ["odd" if label else "even" for label in data.train.labels[:10]])

# %% [markdown]
# The pixels are whole numbers. A network wants numbers around 0 with the spread 1 (lesson 04). There are only 256
# possible pixel values, so all the arithmetic can be done beforehand: one **table** for each channel says what becomes
# of the value 0, of 1, and so on. Then every image is looked up in it.
#
# ### Exercise 1: the table
#
# `images` is (N, C, H, W), and its values are whole numbers from 0 to 255. Give back an array (C, 256) of float32:
# `(value - mean) / spread`, with the mean and the spread of **that channel**, over all images and pixels. If a channel
# is the same everywhere, its spread is 0. Then divide by 1.
#
# Which images? Those to learn from, and no others: `Data` hands you the training images only. Why would it be a small
# fraud to use them all?

# %%
@exercise.implement("data.normalising_table")
def normalising_table(images):
    """(C, 256) float32: (value - mean) / std by channel, of the uint8 images (N, C, H, W).

    The sums are integers and therefore exact, so the table has the same bits on every machine, and so has every device
    that looks its inputs up.
    """
    raise NotImplementedError           # four to ten lines


# %%
table = mr.data.normalising_table(data.train.images)
values = table[0][data.train.images]                        # looked up, all at once
figure, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
axes[0].hist(data.train.images.ravel(), 17, color="#aaaaaa")
axes[0].set(title="pixels", yscale="log")
axes[1].hist(values.ravel(), 17, color="#1b6ca8")
axes[1].set(title=f"looked up: mean {abs(values.mean()):.1f}, spread {values.std():.1f}", yscale="log")
plt.show()

# %% [markdown]
# The shape is the same: a table only moves and stretches the axis. And the fraud? With the test images in the mean, the
# network has seen something of them before the examination. It is small here. But nobody could say how small, and in a
# comparison that is about half a point, nobody should have to ask.
#
# ## 2. Your file
#
# Everything of yours stands in one file, `mine.py`: a network, a way of retraining, a way of pruning. A file, and not a
# cell, because a study runs in several processes, perhaps on several machines, and each of them must be able to import
# it. The next cell writes a first one into your folder `work/capstone/`. From then on edit the file: the cell leaves
# alone what is there.
#
# - **The network**: a function that makes one. It is given `input_shape` and `classes`, if it names them.
# - **A way of retraining**: `(trained, early, mask, schedule) -> (start, rate, stop)`, as in lesson 09. This one goes
#   *half* of the way back: its weights are the mean of the final ones and of those that weight rewinding takes.
# - **A way of pruning**: `(weights, mask, keep) -> mask`, as in lesson 07. This one compares each weight with the mean
#   of its own layer, so that no layer is emptied only because all its numbers are small. What it wants to know besides,
#   it names after the `*`.

# %%
MINE = '''"""A network of my own, a way of retraining and a way of pruning it."""

import dataclasses

from minirewind import functional, nn, prune


class Net(nn.Module):
    """Three layers of filters, each with batch norm, and a score for each class."""

    def __init__(self, C, classes, width=8):
        self.convs = [nn.Conv2d(a, b, 3, padding=1, bias=False)
                      for a, b in ((C, width), (width, 2 * width), (2 * width, 2 * width))]
        self.norms = [nn.BatchNorm2d(conv.weight.shape[0]) for conv in self.convs]
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):                                               # (N, C, 8, 8)
        for conv, norm in zip(self.convs, self.norms):
            x = norm.add_relu(conv(x))                                  # (N, K, 8, 8), then (N, K, 4, 4)
            if x.shape[-1] > 4:
                x = functional.max_pool2d(x, 2)
        return self.fc(functional.global_avg_pool2d(x))                 # (N, classes)


def network(input_shape, classes):
    return Net(input_shape[0], classes)


def halfway(trained, early, mask, schedule):
    """Half of the way back: weights between the final ones and those of step T - t."""
    final, rewound = trained.masked(mask, early.step), early.masked(mask, early.step)
    start = dataclasses.replace(rewound, weights=(final.weights + rewound.weights) / 2)
    return start, schedule, trained.step


def beside_its_layer(weights, mask, keep, *, layers):
    """Keep the weights that are largest beside the mean of their own layer."""
    scores = prune.magnitude(weights, mask)
    for layer in layers:
        part = slice(layer.start, layer.stop)
        scores[part] /= abs(weights[part]).mean() + 1e-9
    return prune.largest(scores, keep)
'''

folder = exercise.work / "capstone"
folder.mkdir(parents=True, exist_ok=True)
if not (folder / "mine.py").exists():
    (folder / "mine.py").write_text(MINE)                   # what is there already stays: it may be yours
sys.path.insert(0, str(folder))                             # Python looks for modules there, too
mine = importlib.reload(importlib.import_module("mine"))    # once more, if you have edited the file
model = mr.models.build("mine:network", input_shape=data.input_shape, classes=2)
print(model)

# %% [markdown]
# `"mine:network"` means: in `mine.py`, the function `network`. The framework takes such a name wherever it takes one of
# its own, and so do the commands in a terminal.
#
# Before you let a computer work for an hour, let it work for a second. Three things go wrong again and again: the
# scores have the wrong shape; a layer was made but is not used; a layer gets no gradient. One batch shows all three.
# **Predict:** which parameter will have the largest gradient?

# %%
prediction = None       # a name, like "convs.0.weight"

x, labels = mr.data.whole(data.train, 0, 64)
scores = model(Tensor(x))
functional.cross_entropy(scores, labels).backward()
print("scores:", scores.shape, "  loss:", round(functional.cross_entropy(scores, labels).item(), 2),
      "  by pure guessing:", round(float(np.log(2)), 2))

names = [name for name, _ in model.named_parameters()]
sizes = [float(np.sqrt((parameter.grad**2).mean())) for parameter in model.parameters()]
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.barh(names, sizes, color="#1b6ca8")
axis.set(xlabel="size of the gradient, where nothing is learned yet", xscale="log")
axis.tick_params(axis="y", labelsize=7)
axis.invert_yaxis()
plt.show()
exercise.reveal(prediction, names[int(np.argmax(sizes))])

# %% [markdown]
# No bar is missing. (A missing bar is a layer without a gradient.) The longest is the last one: that bias stands beside
# the loss, and it is added to the score of every image.
#
# ## 3. Your schedule
#
# Rewinding the learning rate means: going back up a staircase. What if there is no staircase? Many people today let the
# rate fall along half a cosine, from the base to almost nothing. Fine-tuning still takes the last rate. But
# rewinding now comes back to *any* height, depending on how far it goes. The paper did not try this. You do.
#
# ### Exercise 2: the cosine
#
# `cosine(steps, base, last)` gives back a function `rate(step)`, like `step_decay` in lesson 05. At step 0 it is
# `base`, at the last step, `steps - 1`, it is `base * last`. In between it follows half a cosine: $\cos$ goes from 1 to
# -1 while its angle goes from 0 to $\pi$. Beyond the end the last rate holds. If there is only one step, its rate is
# `base`.

# %%
@exercise.implement("optim.cosine")
def cosine(steps, base=0.1, last=0.01):
    """Half a cosine from `base` down to `last` times it at the last step."""
    raise NotImplementedError           # four or five lines


# %%
def schedules(t):
    """Both schedules, and where a retraining of t percent begins."""
    axis = plt.figure(figsize=(6.5, 2.8), layout="constrained").gca()
    for schedule, name, colour in ((mr.optim.step_decay(300), "steps", "#aaaaaa"),
                                   (mr.optim.cosine(300), "cosine", "#1b6ca8")):
        axis.plot([schedule(step) for step in range(300)], color=colour, label=name, drawstyle="steps-post")
        axis.plot(range(300 - 3 * t, 300), [schedule(299)] * (3 * t), color=colour, linestyle=":")
    axis.axvline(300 - 3 * t, color="#d95f02", label=f"T - t, for t = {t} % of T")
    axis.set(xlabel="step", ylabel="learning rate", yscale="log")
    axis.legend()
    plt.show()


pictures.slide(schedules, t=(5, 95, 60))

# %% [markdown]
# From the orange line on, the two rewinding techniques follow the curve, fine-tuning the dotted line. Move the line.
#
# ## 4. Your study
#
# A study says everything: what is trained, how, which ways are compared, at which compressions, and for how many seeds.
# It is checked when it is made, so a mistake in it costs a second and not a night.

# %%
recipe = mr.train.Recipe(steps=exercise.scale(smoke=20, laptop=300, gpu=3000), batch_size=64, schedule="cosine")
study = mr.study.Study(
    "mine:network", data, recipe,
    protocols=("one_shot",),
    techniques=("fine_tuning", "weight_rewinding", "lr_rewinding", "mine:halfway"),
    pruning=exercise.scale(smoke=("global_magnitude",), laptop=("global_magnitude", "mine:beside_its_layer")),
    rounds=exercise.scale(smoke=(9,), laptop=(6, 9, 12)),               # 26 %, 13 % and 7 % of the weights are kept
    retrain_fractions=(0.6,),
    seeds=exercise.scale(smoke=2, laptop=5, gpu=10),
)
cells = len(study.techniques) * len(study.pruning) * len(study.rounds) * len(study.retrain_fractions)
runs = cells * len(study.seed_list)
print(f"{len(study.seed_list)} dense trainings of {recipe.steps} steps, and {runs} retrainings of "
      f"{round(0.6 * recipe.steps)}")

# %% [markdown]
# **Predict**, before you run it, and write it down: which of the four will be best, at the largest compression? And the
# worst? A study whose result you have not predicted teaches you only half. (The order in which you name them counts.)

# %%
prediction = None       # four names, from the best to the worst, like ("lr_rewinding", ...)

results = folder / "results"
began = time.perf_counter()
rows = mr.study.run(study, results, workers=1)
print(f"{len(rows)} runs in {time.perf_counter() - began:.1f} s")

# %% [markdown]
# Now run the same again. **Predict:** how long will it take?

# %%
began = time.perf_counter()
rows = mr.study.run(study, results, workers=1, progress=False)
print(f"{len(rows)} runs in {time.perf_counter() - began:.1f} s")

# %% [markdown]
# Every run has a folder, and its name knows its settings (and, in case you have written functions of the framework,
# your functions, too). What is there is not run again. So you may stop a study whenever you like, by pulling the plug
# if need be, and go on later. You may add seeds or compressions, and only the new runs are run. What you may *not*
# change in a folder is the network, the data and the recipe. That would be another study.
#
# ## 5. What came out
#
# First the table. Changes in points of accuracy on the test set, each measured from the dense network of its own seed:

# %%
print(mr.report.table(rows))

# %%
deepest = [row for row in rows if row.compression == max(row.compression for row in rows)
           and row.pruning == "global_magnitude"]
change = {technique: np.median([row.delta for row in deepest if row.technique == technique])
          for technique in study.techniques}
exercise.reveal(prediction, tuple(sorted(change, key=lambda technique: -change[technique])))

# %% [markdown]
# Do not believe the order yet. Lesson 11: two techniques that share a seed share the dense network, its luck and its
# images. So compare them pair by pair. One point is one seed.

# %%
def differences_of(rows, technique, other):
    """Technique minus other, in points, one difference for each seed."""
    return [value for pairs in mr.report.paired_differences(rows, technique, other).values()
            for value in pairs.values()]


def picture_of_pairs(rows, techniques, other):
    """One point for each seed; the interval as soon as there are enough of them."""
    _, axis = plt.subplots(figsize=(6.5, 0.6 * len(techniques) + 1.2), layout="constrained")
    seeds = min(len(differences_of(rows, technique, other)) for technique in techniques)
    enough = seeds >= mr.report.SEEDS_FOR_A_CLAIM
    for place, technique in enumerate(techniques):
        differences = differences_of(rows, technique, other)
        axis.plot(differences, [place] * len(differences), "o", color="#1b6ca8", alpha=0.6)
        if enough:
            axis.plot(mr.report.interval(differences), [place, place], color="#d95f02", linewidth=3, alpha=0.5)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(yticks=range(len(techniques)), yticklabels=techniques, ylim=(-0.5, len(techniques) - 0.5),
             xlabel=f"points better than {other}, same seed",
             title=f"{seeds} seeds" + (", bars: 95 % intervals" if enough else ": too few for an interval"))
    plt.show()


picture_of_pairs(deepest, [technique for technique in study.techniques if technique != "fine_tuning"], "fine_tuning")

# %% [markdown]
# The bar is the interval of lesson 11. If it covers the zero line, you have not shown a difference. With fewer than
# five seeds there is no bar. One could be computed from two, but lesson 11 knows that it reaches 12.7 times $s / \sqrt
# n$ to each side. At smoke scale that is some 150 points, and an accuracy has only 100. This is what the report says in
# words:

# %%
for sentence in mr.report.findings(rows):
    print(sentence)

# %% [markdown]
# As it stands, at laptop scale, our way of pruning loses clearly, however reasonable it sounded. A page that shows this
# is worth as much as one that shows a victory.
#
# ## 6. Your page
#
# At last, what you can show to others. One command makes the report of a folder: `minirewind report FOLDER`. In a
# terminal or from here, it is the same. Open `report.html` in a browser: everything is in that one file.

# %%
cli.main(["report", str(results)])
for path in sorted(results.iterdir()):
    print(f"{path.name:24}", f"{path.stat().st_size:,} bytes" if path.is_file() else "a folder")

picture = plt.imread(results / "comparison.png")
figure = plt.figure(figsize=(8, 8 * picture.shape[0] / picture.shape[1]), layout="constrained")
axis = figure.gca()
axis.imshow(picture)
axis.axis("off")
plt.show()

# %% [markdown]
# `results.csv` holds every run, for those who do not believe you. They are right not to: with this file they can see
# for themselves.
#
# The whole study can be written as a **study file** too, for the terminal, where it runs on all cores. For the digits
# as they are it looks like this:
#
# ```
# dataset = "digits"
# network = "mine:network"
# techniques = ["fine_tuning", "weight_rewinding", "lr_rewinding", "mine:halfway"]
# protocols = ["one_shot"]
# rounds = [6, 9, 12]
# retrain_fractions = [0.6]
# seeds = 5
#
# [recipe]
# steps = 300
# schedule = "cosine"
# ```
#
# ```
# cd work/capstone && minirewind compare study.toml
# ```
#
# ## 7. And now yours
#
# All of this was a study of ours: `halfway` was not your idea. Which one is? You may have had it in lesson 09, at
# "*what* about the rates?", or on the way here: other images, a deeper network, a third way to choose the weights.
#
# A study is not made by running it. It is made by four sentences **before** it runs. Afterwards everybody finds a
# reason for what came out.
#
# - **question**: to be answered by yes or no, of one thing. *Is `halfway` better than learning-rate rewinding at 7 % of
#   the weights?* And not: *how good is `halfway`?*
# - **against**: what it is compared with. It should differ from your idea in **one** thing, like the control of lesson
#   09. Else you will not know which of two things it was.
# - **expected**: by how many points, and why.
# - **wrong_if**: the result that would show you that you were mistaken. If you can think of none, it is no question
#   yet.
#
# How many seeds will it take? Our study can tell you, for you have seen how far the pairs scatter. From $n$ seeds with
# the spread $s$ the interval reaches $q\,s / \sqrt n$ to each side (lesson 11). A difference that is smaller than that
# will not be shown.

# %%
scatter = np.std(differences_of(deepest, "mine:halfway", "lr_rewinding"), ddof=1)
print(f"halfway minus learning-rate rewinding: s = {scatter:.1f} points, of {len(study.seed_list)} seeds")
for n in (5, 10, 20, 40):
    print(f"{n:3} seeds would show a difference of {mr.report.t_quantile(n - 1) * scatter / np.sqrt(n):4.1f} points")

# %% [markdown]
# ($s$ is itself only guessed, the more roughly the fewer seeds you had. Take some more than the table says.)
#
# Does nothing come to mind? Then take one of these. Nobody knows the answer on your network either. *Other rates:*
# rewind the rate, but only to half of its height; or to 0.01, and stay there. *Other weights:* the sizes of the early
# weights, with the signs of the final ones; or a quarter of the way back in place of half.
#
# Now write your idea into `mine.py`, beside `halfway`: a function of four lines. Then fill in the plan. As long as it
# has a gap, nothing is run. Once it is complete it is written to `plan.json`, **and never changed again**: if you have
# another question, take another folder. That holds for the seeds, too. Whoever adds some, looks, and adds some more
# until the interval suits has chosen by the result.

# %%
name = "mine:halfway"           # yours: "mine:" and the name of your function
plan = {
    "question": None,           # "Is ... better than ... at ...?"
    "against": None,            # the name of a technique, like "lr_rewinding"
    "expected": None,           # "+0.5 points, because ..."
    "wrong_if": None,           # "the whole interval lies below 0"
    "seeds": None,              # a number, from the table above
}
own = folder / "own"            # another question, another folder

missing = [part for part, words in plan.items() if words is None]
if missing:
    print("Nothing is run yet. The plan lacks:", ", ".join(missing))
else:
    importlib.reload(mine)                                              # you have edited the file
    if (own / "plan.json").exists():
        plan = json.loads((own / "plan.json").read_text())              # the first one counts
    yours = mr.study.Study("mine:network", data, recipe, protocols=("one_shot",), techniques=(plan["against"], name),
                           rounds=study.rounds[-1:], retrain_fractions=(0.6,), seeds=plan["seeds"])
    own.mkdir(exist_ok=True)
    (own / "plan.json").write_text(json.dumps(plan, indent=2))
    rows = mr.study.run(yours, own / "results", workers=1)
    picture_of_pairs(rows, [name], plan["against"])
    for part in ("question", "expected", "wrong_if"):
        print(f"{part:10}", plan[part])
    for sentence in mr.report.findings(rows):
        print(f"{'came out':10}", sentence)

# %% [markdown]
# Three sentences make a page of it, beside the report of the folder: what you expected, what came out, and **what
# cannot be concluded** (one network, one set of images, one compression). If you were mistaken, you have learned more
# than somebody who was right.
#
# ## 8. Whose code was that?

# %%
print(f"{len(learn.mine)} functions of the framework were yours while this study ran.")
exercise.status()

# %% [markdown]
# ## What you built
#
# - `normalising_table` and `cosine`: the last two functions.
# - A network, a way of retraining and a way of pruning that nobody has compared before; and a study that compares them
#   fairly, can be stopped and continued, and ends in a page.
# - A question of your own, with a plan that was written before the answer was known.
# - A framework. Look at the list above.
#
# If the plan of section 7 is still empty, the course is not over yet.
#
# ## A further question
#
# You have compared ways of making a network small. You could also have trained a small network from the start, with as
# many weights as were left. Would that have been as good? Your study can answer it, with a technique of eight lines:
# a fresh initialisation under the same mask. (It is in `minirewind/retrain.py` already, and in the paper, as
# `reinitialize`.) And if it is worse: then what was in the weights that you started from?
