"""The drawings of the lessons: images, an array and its memory, broadcasting, the graph of a computation, bars."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import tensor as engine
from .tensor import Tensor

INK, PALE, WARM, COOL = "#222222", "#dddddd", "#d95f02", "#1b6ca8"


def images(arrays, titles=None, columns: int = 10, size: float = 1.1, symmetric: bool = False):
    """Images (H, W) side by side on one scale, each with its title; `symmetric`: red above zero, blue below."""
    plt = _pyplot()
    most = max(float(abs(np.asarray(array)).max()) for array in arrays) or 1.0
    look: dict[str, Any] = {"cmap": "RdBu_r" if symmetric else "gray_r", "vmin": -most if symmetric else 0.0}
    rows = -(-len(arrays) // columns)
    columns = min(columns, len(arrays))
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.25) * rows), squeeze=False,
                                layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, array) in enumerate(zip(axes.flat, arrays)):
        axis.imshow(np.asarray(array).squeeze(), vmax=most, **look)
        if titles is not None:
            axis.set_title(str(titles[i]), fontsize=9, color=INK)
    return _shown(figure)


def memory(array, base=None, title: str = ""):
    """A 2-dimensional array above, and below the row of memory that it reads; equal colours are the same number.

    `base` is the array that owns the memory, if `array` is a view of it.
    """
    plt = _pyplot()
    base = array if base is None else base
    flat = base.reshape(-1)
    steps = [stride // array.itemsize for stride in array.strides]
    start = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // array.itemsize
    where = start + sum(step * index for step, index in zip(steps, np.indices(array.shape)))      # (rows, columns)
    colours = plt.get_cmap("viridis")(np.linspace(0.25, 0.95, flat.size))
    wide = max(flat.size, array.shape[1] + 6)
    figure, axis = plt.subplots(figsize=(0.5 * wide, 0.5 * (array.shape[0] + 4.2)), layout="constrained")
    left = (wide - array.shape[1]) / 2
    for (row, column), place in np.ndenumerate(where):
        _cell(axis, left + column, -row, array[row, column], colours[place])
    read = set(where.ravel().tolist())
    bottom = -array.shape[0] - 2.2
    for place, value in enumerate(flat):
        _cell(axis, (wide - flat.size) / 2 + place, bottom, value, colours[place] if place in read else "white")
        axis.text((wide - flat.size) / 2 + place + 0.5, bottom - 0.35, place, ha="center", va="center", fontsize=7,
                  color="grey")
    axis.text(left + array.shape[1] / 2, 1.5, f"{title}   shape {array.shape}, strides {tuple(steps)}".strip(),
              ha="center", va="center", fontsize=10, color=INK)
    axis.text(left + array.shape[1] + 0.3, 0.5, f"right: {steps[1]:+d}", va="center", fontsize=9, color=COOL)
    axis.text(left - 0.3, -array.shape[0] / 2 + 1, f"down: {steps[0]:+d}", va="center", ha="right", fontsize=9,
              color=WARM)
    axis.text(wide / 2, bottom + 1.5, "in memory", ha="center", va="center", fontsize=9, color="grey")
    axis.set(xlim=(-0.2, wide + 0.2), ylim=(bottom - 0.8, 2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def broadcast(x, y, names=("x", "y", "x + y"), result=None):
    """x, y and their sum as grids of one shape: numbers that memory holds are framed, repeated ones are pale."""
    plt = _pyplot()
    x, y = np.asarray(x), np.asarray(y)
    result = x + y if result is None else result
    rows, columns = np.atleast_2d(result).shape
    figure, axis = plt.subplots(figsize=(0.5 * (3 * columns + 5), 0.5 * (rows + 2)), layout="constrained")
    for number, (array, name) in enumerate(zip((x, y, result), names)):
        left = number * (columns + 2)
        whole = np.broadcast_to(array, np.atleast_2d(result).shape)
        own = np.zeros(whole.shape, bool)
        own[tuple(slice(0, size) for size in (1, 1, *array.shape)[-2:])] = True
        for row, column in sorted(np.ndindex(whole.shape), key=lambda place: own[place]):    # the frames over the pale
            _cell(axis, left + column, -row, whole[row, column], "#fdd9b5" if own[row, column] else "white",
                  INK if own[row, column] else "#aaaaaa", PALE if not own[row, column] else INK)
        axis.text(left + columns / 2, 1.5, f"{name}  {array.shape}", ha="center", va="center", fontsize=10, color=INK)
        if number < 2:
            axis.text(left + columns + 1, -rows / 2 + 1, "+="[number], ha="center", va="center", fontsize=14)
    axis.set(xlim=(-0.3, 3 * columns + 4.3), ylim=(-rows + 0.7, 2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def sums(dz, row, column, number):
    """The gradient dz of a broadcast result, and what becomes of it: a row's below, a column's beside, a number's."""
    plt = _pyplot()
    rows, columns = dz.shape
    figure, axis = plt.subplots(figsize=(0.5 * (columns + 7), 0.5 * (rows + 4.4)), layout="constrained")
    for grid, left, top in ((dz, 0, 0), (np.reshape(row, (1, -1)), 0, -rows - 1), (np.reshape(column, (-1, 1)),
                            columns + 1, 0), (np.reshape(number, (1, 1)), columns + 1, -rows - 1)):
        for (i, j), value in np.ndenumerate(grid):
            _cell(axis, left + j, top - i, value, "white" if grid is dz else "#fdd9b5")
    arrow = {"arrowstyle": "-|>", "color": COOL, "linewidth": 1.4}
    for j in range(columns):
        axis.annotate("", (j + 0.5, -rows), (j + 0.5, -rows + 1), arrowprops=arrow)
    for i in range(rows):
        axis.annotate("", (columns + 1, 0.5 - i), (columns, 0.5 - i), arrowprops=arrow)
    axis.text(columns / 2, 1.4, "dz", ha="center", va="center", fontsize=10)
    axis.text(columns / 2, -rows - 1.6, f"gradient of a row {np.shape(row)}", ha="center", va="center", fontsize=9)
    axis.text(columns + 2.3, -rows / 2 + 1, f"of a column\n{np.shape(column)}", va="center", fontsize=9)
    axis.text(columns + 2.3, -rows - 0.5, f"of a number\n{np.shape(number)}", va="center", fontsize=9)
    axis.set(xlim=(-0.5, columns + 6), ylim=(-rows - 2.1, 2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def masking(weights, mask):
    """A row of weights, the mask below it, and what is left below both; what is pruned is pale."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(0.62 * (len(weights) + 3), 2.4), layout="constrained")
    rows = {"weights": weights, "mask": mask, "what is left": np.where(mask, weights, 0)}
    for number, (name, row) in enumerate(rows.items()):
        for place, (value, kept) in enumerate(zip(row, mask)):
            gone = number > 0 and not kept
            _cell(axis, place, -1.4 * number, value, "white" if gone else "#fdd9b5", "#aaaaaa" if gone else INK,
                  PALE if gone else INK)
        axis.text(-0.3, -1.4 * number + 0.5, name, ha="right", va="center", fontsize=10, color=INK)
    axis.set(xlim=(-3, len(weights) + 0.2), ylim=(-3, 1.2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def cursors(schedule, steps: int, plans: dict[str, tuple[int, int, int, Callable[[int], float]]]):
    """The learning rates of a dense run of `steps` steps, grey, and for each plan of retraining three cursors on them.

    A plan is (the step its weights are from, the step it starts at, the step it stops at, its rates).
    """
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(plans), figsize=(3.6 * len(plans), 3.2), sharey=True, squeeze=False,
                                layout="constrained")
    for axis, (name, (origin, start, stop, rate)) in zip(axes.flat, plans.items()):
        whole, again = np.arange(steps), np.arange(start, stop)
        axis.step(whole, [schedule(int(step)) for step in whole], where="post", color="#bbbbbb", linewidth=5)
        axis.step(again, [rate(int(step)) for step in again], where="post", color=WARM, linewidth=2)
        low = schedule(steps - 1) / 8
        axis.plot([origin, origin], [low, schedule(min(origin, steps - 1))], color=COOL, linewidth=1, linestyle=":")
        axis.plot([origin], [low], "^", color=COOL, markersize=11, clip_on=False)
        axis.plot([start], [rate(start)], "o", color=WARM, markersize=8)
        axis.plot([stop], [rate(stop - 1)], "s", color=INK, markersize=6)
        axis.set(yscale="log", ylim=(low, 2 * schedule(0)), xlim=(-0.03 * steps, 1.05 * steps))
        axis.set(title=name, xlabel="step")
    axes.flat[0].set_ylabel("learning rate")
    figure.supxlabel("blue triangle: the weights are from here     orange: the rates     black square: it stops here",
                     fontsize=9)
    return _shown(figure)


def graph(result: Tensor, upto: int | None = None, **names: Tensor):
    """The graph of a computation, leaves below, each tensor with the operation that made it.

    `names` label tensors: graph(z, x=x, y=y); of one that is a single number they show it. With `upto`, the walk of
    backward() after so many tensors: those it has been at are filled, with their place in the walk, and beside each
    stands what has arrived there (if all are single numbers).
    """
    plt = _pyplot()
    order = engine.topological_order(result)
    label = {id(tensor): name + (f" = {tensor.item():.3g}" if tensor.size == 1 else "")
             for name, tensor in names.items()}
    height: dict[int, int] = {}

    def measure(tensor: Tensor) -> int:
        if id(tensor) not in height:
            height[id(tensor)] = 1 + max(map(measure, _inputs(tensor)), default=-1)
        return height[id(tensor)]

    levels: dict[int, list[Tensor]] = {}
    for tensor in order:
        levels.setdefault(measure(tensor), []).append(tensor)
    arrived: dict[int, list[float]] = {id(result): [1.0]}
    for tensor in order[:upto] if upto is not None and all(tensor.size == 1 for tensor in order) else []:
        dz = np.full(tensor.shape, sum(arrived.get(id(tensor), [])), tensor.dtype)
        for x, dx in zip(_inputs(tensor), [] if tensor.function is None else
                         [dx for dx in tensor.function.input_gradients(dz) if dx is not None]):
            arrived.setdefault(id(x), []).append(float(dx))
    middle = {id(t): (2.4 * (i - (len(level) - 1) / 2), 1.5 * height[id(t)])
              for level in levels.values() for i, t in enumerate(level)}
    widest = max(map(len, levels.values()))
    figure, axis = plt.subplots(figsize=(1.6 * widest + 1.6, 1.0 * len(levels) + 0.4), layout="constrained")
    for tensor in order:
        x1, y1 = middle[id(tensor)]
        inputs = _inputs(tensor)
        for i, x in enumerate(inputs):
            x0, y0 = middle[id(x)]
            twice = 0.25 * (2 * i - len(inputs) + 1) if len({id(each) for each in inputs}) < len(inputs) else 0.0
            skips = 0.3 if height[id(tensor)] - height[id(x)] > 1 and x0 == x1 else 0.0
            axis.annotate("", (x1, y1 - 0.36), (x0, y0 + 0.36), arrowprops={
                "arrowstyle": "-|>", "color": "grey", "connectionstyle": f"arc3,rad={twice or skips}"})
    for number, tensor in enumerate(order, 1):
        reached = upto is not None and number <= upto
        made = "" if tensor.function is None else type(tensor.function).__name__
        text = f"{number}.  " * reached + ("\n".join(filter(None, (label.get(id(tensor), ""), made))) or "leaf")
        axis.text(*middle[id(tensor)], text, ha="center", va="center", fontsize=10, color="white" if reached else INK,
                  bbox={"boxstyle": "round,pad=0.4", "facecolor": WARM if reached else
                        ("#e8f1f8" if tensor.function is None else "white"), "edgecolor": INK})
        if upto is not None:
            shares = arrived.get(id(tensor), [])
            sums = " + ".join(f"{share:.3g}" for share in shares) + f" = {sum(shares):.3g}" * (len(shares) > 1)
            x1, y1 = middle[id(tensor)]
            axis.text(x1 + 0.75, y1, sums if reached else f"{sums} so far" if upto and shares else "", ha="left",
                      va="center", fontsize=10, color=WARM)
    axis.set(xlim=(-1.2 * widest - 0.4, 1.2 * widest + 0.4), ylim=(-0.6, 1.5 * (len(levels) - 1) + 0.6))
    axis.axis("off")
    return _shown(figure)


def window(image, weight, row: int, column: int):
    """A filter (R, S) on an image (H, W) at one place: the window, its products, and the feature map as far as it is.

    Red is above zero, blue below.
    """
    plt = _pyplot()
    R, S = weight.shape
    patches = np.lib.stride_tricks.sliding_window_view(image, (R, S))
    result = (patches * weight).sum(axis=(2, 3))                          # (P, Q)
    seen = np.where(np.arange(result.size).reshape(result.shape) <= row * result.shape[1] + column, result, np.nan)
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
    most = abs(image).max()
    products, strongest = patches[row, column] * weight, abs(weight).max()
    for axis, grid, top, title in zip(axes, (image, weight, products, seen),
                                      (most, strongest, most * strongest, abs(result).max()),
                                      ("image", "filter", f"products, sum {products.sum() + 0.0:.3g}", "feature map")):
        axis.imshow(grid, cmap="gray_r" if grid is image else "RdBu_r", vmin=0 if grid is image else -top, vmax=top)
        axis.set(title=title, xticks=[], yticks=[])
        if grid.size <= 25:
            for (i, j), value in np.ndenumerate(grid):
                axis.text(j, i, f"{value + 0.0:.2g}", ha="center", va="center", fontsize=9,
                          color="white" if abs(value) > 0.6 * top else INK)
    _frame(axes[0], column, row, S, R, WARM)
    _frame(axes[3], column, row, 1, 1, WARM)
    return _shown(figure)


def bars(values: dict[str, float], unit: str):
    """Named numbers as bars, on a scale of powers of ten where they differ much."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(values) + 0.9), layout="constrained")
    names, numbers = list(values), list(values.values())
    axis.barh(names, numbers, color=[WARM if number == min(numbers) else COOL for number in numbers])
    wide = max(numbers) > 20 * min(numbers) > 0
    if wide:
        axis.set_xscale("log")
    axis.set_xlim(min(numbers) / 2 if wide else 0, max(numbers) * (4 if wide else 1.18))
    for i, number in enumerate(numbers):
        axis.text(number, i, f" {number:,.3g}" if number < 100 else f" {number:,.0f}", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
    return _shown(figure)


def cache_lines(sizes: dict[str, int], order: str, loop: str, line: int = 16):
    """An array in memory, a cache line of `line` numbers in each row; framed is what a loop over one letter touches.

    `sizes` gives the size of each letter, `order` how they lie in memory, the innermost last. Colours tell apart what
    the loop goes over.
    """
    plt = _pyplot()
    places = np.indices([sizes[letter] for letter in order]).reshape(len(order), -1)
    which = dict(zip(order, places))
    touched = np.all([which[letter] == 0 for letter in order if letter != loop], axis=0)
    colours = plt.get_cmap("Set2")
    rows = -(-len(touched) // line)
    figure, axis = plt.subplots(figsize=(0.52 * line + 1, 0.62 * rows + 0.5), layout="constrained")
    for place in range(len(touched)):
        x, y = place % line, -1.2 * (place // line)
        text = "\n".join((f"{loop}{which[loop][place]}",
                          " ".join(f"{letter}{which[letter][place]}" for letter in order if letter != loop)))
        _cell(axis, x, y, "", colours(which[loop][place] % 8), edge="white")
        axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=6, color=INK)
    framed = np.flatnonzero(touched).tolist()
    for place in framed:
        _frame(axis, place % line + 0.5, -1.2 * (place // line) + 0.5, 1, 1)
    asked = len({place // line for place in framed})
    axis.set_title(f"memory [{', '.join(order)}]: the loop over {loop} touches {touched.sum()} numbers in "
                   f"{asked} cache line{'s' * (asked > 1)}", fontsize=10)
    axis.set(xlim=(-0.2, line + 0.2), ylim=(-1.2 * (rows - 1) - 0.2, 1.2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def threads(count: int, size: int, blocks: int | None = None):
    """`count` numbers and the threads that work on them: block by block, each with its number in the whole grid.

    Threads without a number are pale.
    """
    plt = _pyplot()
    blocks = -(-count // size) if blocks is None else blocks
    figure, axis = plt.subplots(figsize=(0.52 * size + 2.2, 0.6 * blocks + 0.7), layout="constrained")
    colours = plt.get_cmap("Set2")
    for block in range(blocks):
        axis.text(-0.3, -1.2 * block + 0.5, f"blockIdx.x = {block}", ha="right", va="center", fontsize=9, color=INK)
        for thread in range(size):
            i = block * size + thread
            busy = i < count
            _cell(axis, thread, -1.2 * block, str(i), *((colours(block % 8), INK, INK) if busy else
                                                        ("white", "#aaaaaa", PALE)))
    for thread in range(size):
        axis.text(thread + 0.5, 1.4, thread, ha="center", va="center", fontsize=8, color="grey")
    axis.text(-0.3, 1.4, "threadIdx.x", ha="right", va="center", fontsize=9, color="grey")
    axis.set(xlim=(-3.4, size + 0.2), ylim=(-1.2 * (blocks - 1) - 0.2, 1.9), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def halving(values, upto: int | None = None):
    """A sum by halves: in each step the first half of the numbers takes in the second; `upto`: only so many steps."""
    plt = _pyplot()
    rows = [np.asarray(values, float)]
    while len(rows[-1]) > 1:
        half = len(rows[-1]) // 2
        rows.append(rows[-1][:half] + rows[-1][half:])
    rows = rows[: None if upto is None else upto + 1]
    figure, axis = plt.subplots(figsize=(0.55 * len(rows[0]) + 1.6, 0.95 * len(rows)), layout="constrained")
    for step, row in enumerate(rows):
        for thread, value in enumerate(row):
            _cell(axis, thread, -2 * step, value, "#e8f1f8" if step == 0 else "#fdd9b5")
            if step:
                for source in (thread, thread + len(row)):
                    axis.annotate("", (thread + 0.5, -2 * step + 1), (source + 0.5, -2 * step + 2), arrowprops={
                        "arrowstyle": "-|>", "color": COOL if source == thread else WARM, "linewidth": 1.1})
        if step:
            axis.text(len(rows[0]) + 0.3, -2 * step + 0.5, f"half = {len(row)}", va="center", fontsize=9, color=INK)
    axis.set(xlim=(-0.2, len(rows[0]) + 2.6), ylim=(-2 * len(rows) + 1.8, 1.2), aspect="equal")
    axis.axis("off")
    return _shown(figure)


def slide(function: Callable[..., Any], **ranges):
    """Call `function` again whenever a slider moves: slide(draw, k=(0, 10)). The last number, if a third, is the start.

    Without ipywidgets it is called once, with the starts.
    """
    starts = {name: span[2] if len(span) > 2 else span[0] for name, span in ranges.items()}
    try:
        import ipywidgets
        from IPython import get_ipython
        live = get_ipython() is not None
    except ImportError:
        live = False
    if not live:
        function(**starts)
        return
    ipywidgets.interact(function, **{
        name: ipywidgets.IntSlider(min=span[0], max=span[1], value=starts[name], description=name,
                                   continuous_update=False)
        for name, span in ranges.items()})


def _inputs(tensor: Tensor) -> list[Tensor]:
    return [] if tensor.function is None else [x for x in tensor.function.inputs if x.requires_grad]


def _frame(axis, x, y, width, height, colour=INK):
    """A frame round whole cells, whose first has its middle at (x, y)."""
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=2.2, zorder=3))


def _cell(axis, x, y, value, face, ink=INK, edge=INK):
    from matplotlib.patches import Rectangle

    dark = not isinstance(face, str) and sum(face[:3]) < 1.4
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=edge, linewidth=0.8))
    axis.text(x + 0.5, y + 0.5, value if isinstance(value, str) else f"{value:.3g}", ha="center", va="center",
              fontsize=9, color="white" if dark else ink)


def _pyplot():
    import matplotlib.pyplot as plt

    return plt


def _shown(figure):
    """Show the figure in the notebook at once, and let go of it; elsewhere hand it back."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return figure
    if get_ipython() is None:
        return figure
    display(figure)
    _pyplot().close(figure)
    return None
