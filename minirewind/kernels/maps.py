"""A whole network on one image, or a few: channel maps laid flat, with zeros between them, so that a tap is a shift.

With a single image there is no batch to run along; the vectors run along the pixels instead. A map of H x W pixels lies
in one long array, the *arena*, row after row, with `margin` zeros behind every row and as many rows of zeros behind the
last. What is behind one row is in front of the next, so a pixel's neighbours are always at the same distance, across
the edges too:

      x  x  x  x  0          y[v] += weight * x[v + tap_row * row + tap_column]        for all v, edges or not
      x  x  x  x  0
      x  x  x  x  0          and then zeros again where there are no pixels
      0  0  0  0  0

A kept weight is one multiplication of a whole shifted map. A stride is taken out first: the pixels of each phase (every
second row and column, say) become channels of their own, and on those the filter moves by one.

Many images go through in the same way, a block of them side by side: a pixel is then one number of each image.
Each thread takes its own block through the whole network, so that its maps never leave the cache.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from . import process

WIDE = 128      # the most numbers that a kernel computes at a time: behind the last row there is room for its overhang
PHASES, CONVOLVE = 0, 1

LAYER = np.dtype([(name, np.int64) for name in (
    "kind",                                              # PHASES or CONVOLVE
    "x", "x_channels", "x_plane", "x_row",               # its first pixel, how many maps, pixels per map and per row
    "x_height", "x_width",
    "y", "channels", "plane", "row", "height", "width",  # the same for the result
    "residual",                                          # what is added, laid out as the result; -1: nothing
    "relu",                                              # whether only the positive part is kept, last of all
    "vertical", "horizontal",                            # PHASES: the stride
    "first",                                             # CONVOLVE: output k has the weights from start[first + k] on
)])


class Filter(NamedTuple):
    """A convolution and what was folded into it: relu(weight * x + bias + residual). Values by number."""

    x: int
    weight: Any                 # (K, C, R, S)
    bias: Any                   # (K,)
    stride: tuple[int, int]
    padding: tuple[int, int]
    residual: int | None
    relu: bool
    output: int


class Plane:
    """One value in the arena: `channels` maps of height x width. Maps that are computed together share `row`."""

    def __init__(self, channels: int, height: int, width: int):
        self.channels, self.height, self.width = channels, height, width
        self.reach = width              # the widest of those that share the row
        self.parent = self
        self.start = self.plane = self.row = 0

    def root(self) -> "Plane":
        """Who speaks for all that share the row."""
        return self if self.parent is self else self.parent.root()

    def join(self, other: "Plane") -> None:
        """From now on the two share the length of their rows."""
        mine, theirs = self.root(), other.root()
        mine.reach = max(mine.reach, theirs.reach)
        theirs.parent = mine

    def lay(self, margin: int, block: int) -> None:
        """Decide the distances between rows and between maps, in pixels."""
        self.row = self.root().reach + margin
        self.plane = self.height * self.row + max(margin * self.row, -(-WIDE // block))

    def view(self, arenas) -> np.ndarray:
        """Its pixels in the arenas (arena, pixel, block), as (arena, block, channels, height, width)."""
        arena, pixel, image = arenas.strides
        strides = arena, image, self.plane * pixel, self.row * pixel, pixel
        shape = arenas.shape[0], arenas.shape[2], self.channels, self.height, self.width
        return np.lib.stride_tricks.as_strided(arenas[:, self.start :], shape, strides)


class Segment:
    """Convolutions that follow one another, as a table for the kernel `run_maps`, and the arenas they work in.

    `sizes` gives the (channels, height, width) of each value, `wanted` names the values that are needed afterwards,
    `block` is the number of images side by side, a power of two: 1, or the backend's `maps_block`.
    """

    def __init__(self, filters: list[Filter], sizes: dict[int, tuple], wanted: set[int], block: int = 1):
        self.block = block
        made = {f.output for f in filters}
        read = [value for f in filters for value in (f.x, f.residual) if value is not None]
        self.inputs = tuple(dict.fromkeys(value for value in read if value not in made))
        self.outputs = tuple(f.output for f in filters if f.output in wanted)
        self.planes: dict[Any, Plane] = {value: Plane(*sizes[value]) for value in (*self.inputs, *sorted(made))}
        self.margin = max(itertools.chain(*(f.padding for f in filters)))
        steps = self.steps(filters)
        for plane in self.planes.values():
            plane.lay(self.margin, block)
        self.size = self.allocate(steps)
        self.fill(steps)
        self.make_arenas(1)

    def steps(self, filters: list[Filter]) -> list[tuple]:
        """(what it reads, what it makes, the filter or None for phases), in order; the planes of phases are made."""
        steps: list[tuple] = []
        for f in filters:
            source: Any = f.x
            if f.stride != (1, 1):
                source = f.x, f.stride
                if source not in self.planes:
                    x, (vertical, horizontal) = self.planes[f.x], f.stride
                    self.planes[source] = Plane(x.channels * vertical * horizontal,
                                                -(-x.height // vertical), -(-x.width // horizontal))
                    steps.append(((f.x,), source, None))
            reads = (source,) if f.residual is None else (source, f.residual)
            for value in reads:
                self.planes[f.output].join(self.planes[value])
            steps.append((reads, f.output, f))
        return steps

    def allocate(self, steps) -> int:
        """Give every plane its place; one of the same form that nobody reads any more leaves it its own."""
        last = {value: n for n, (reads, _, _) in enumerate(steps) for value in reads}
        free: dict[tuple, list[int]] = {}
        around = WIDE + 4 * (self.margin + 1) * max(plane.row for plane in self.planes.values())
        end = around

        def place(value) -> None:
            nonlocal end
            plane = self.planes[value]
            form = plane.channels, plane.height, plane.width, plane.row
            if free.get(form):
                plane.start = free[form].pop()
            else:
                plane.start = end + self.margin * (plane.row + 1)
                end = plane.start + plane.channels * plane.plane

        for value in self.inputs:
            place(value)
        for n, (reads, makes, _) in enumerate(steps):
            place(makes)
            for value in set(reads):
                if last[value] == n and value not in self.outputs:
                    plane = self.planes[value]
                    free.setdefault((plane.channels, plane.height, plane.width, plane.row), []).append(plane.start)
        return end + around

    def fill(self, steps) -> None:
        """The table, and the kept weights of all its layers one after the other."""
        self.table = np.zeros(len(steps), LAYER)
        starts, offsets, values, biases = [np.zeros(1, np.int64)], [], [], []
        count = rows = 0
        for layer, (reads, makes, f) in zip(self.table, steps):
            x, y = self.planes[reads[0]], self.planes[makes]
            for name, value in (("x", x.start), ("x_channels", x.channels), ("x_plane", x.plane), ("x_row", x.row),
                                ("x_height", x.height), ("x_width", x.width), ("y", y.start),
                                ("channels", y.channels), ("plane", y.plane), ("row", y.row), ("height", y.height),
                                ("width", y.width), ("residual", -1)):
                layer[name] = value
            if f is None:
                layer["kind"], (layer["vertical"], layer["horizontal"]) = PHASES, makes[1]
                continue
            layer["kind"], layer["first"], layer["relu"] = CONVOLVE, rows, f.relu
            if f.residual is not None:
                layer["residual"] = self.planes[f.residual].start
            output, offset = shifts(f, x)
            starts.append(count + np.searchsorted(output, np.arange(1, y.channels + 1)))
            offsets.append(offset * self.block)
            values.append(f.weight[f.weight != 0])
            biases.append(f.bias)
            count, rows = count + len(offset), rows + y.channels
        self.start, self.offset = np.concatenate(starts), np.concatenate(offsets)
        self.value, self.bias = np.concatenate(values), np.concatenate(biases)
        convolutions = self.table[self.table["kind"] == CONVOLVE]
        ends = convolutions["first"] + convolutions["channels"]
        kept = self.start[ends] - self.start[convolutions["first"]]
        self.work = int((kept * convolutions["height"] * convolutions["row"]).sum()) * self.block

    def make_arenas(self, count: int) -> None:
        """Zeros to work in, beginning at a cache line, and where the images and the results lie in them."""
        raw = np.zeros(count * self.size * self.block + 16, np.float32)
        first = -raw.__array_interface__["data"][0] % 64 // 4
        self.arenas = raw[first : first + count * self.size * self.block].reshape(count, self.size, self.block)
        self.sources = [self.planes[value].view(self.arenas) for value in self.inputs]
        self.results = [self.planes[value].view(self.arenas) for value in self.outputs]

    def __call__(self, backend, *images) -> list[np.ndarray]:
        """The wanted values of some images: arrays (N, C, H, W)."""
        N = len(images[0])
        results = [backend.empty((N, *result.shape[2:])) for result in self.results]
        count = min(process.threads(), max(-(-N // self.block), 1)) if self.block > 1 else 1
        if count > len(self.arenas):
            self.make_arenas(count)
        for first in range(0, N, count * self.block):
            self.run(backend, [x[first : first + count * self.block] for x in images],
                     [result[first : first + count * self.block] for result in results])
        return results

    def run(self, backend, images, results) -> None:
        """As many images as the arenas take, or fewer."""
        N, block = len(images[0]), self.block
        count = -(-N // block)
        for source, x in zip(self.sources, images):
            for a in range(count):
                part = x[a * block : (a + 1) * block]
                source[a, : len(part)] = part
        backend.run_maps(self.arenas[:count], self.table, self.start, self.offset, self.value, self.bias, self.work)
        for y, result in zip(results, self.results):
            for a in range(count):
                part = y[a * block : (a + 1) * block]
                part[...] = result[a, : len(part)]


def shifts(f: Filter, x: Plane):
    """(output channel, distance in the arena) of every kept weight; x is what f reads, or its phases."""
    output, channel, row, column = np.nonzero(f.weight)
    row, vertical = np.divmod(row - f.padding[0], f.stride[0])
    column, horizontal = np.divmod(column - f.padding[1], f.stride[1])
    channel = channel + (vertical * f.stride[1] + horizontal) * f.weight.shape[1]
    return output, channel * x.plane + row * x.row + column
