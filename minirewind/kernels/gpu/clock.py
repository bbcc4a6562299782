"""The clock of a run in the device's memory, where a captured step can read it."""

import numpy as np


class DeviceClock:
    """A run's clock: what changes from step to step lies in arrays, which are filled and never replaced.

    A captured step is replayed with the addresses and the numbers that it was recorded with. So the step and the rate
    must not be numbers; at the same addresses other values can lie each time. The arrays cannot be mistaken for
    numbers either: whoever looks into one while a step is being recorded stops the recording.

    seed, stream, round, batch_size     plain numbers, constant in a run
    step, rate                          arrays without dimensions; setting them fills them
    loss                                what the step leaves there
    order                               the permutations of the images, from that of `epoch` on, one after another
    """

    def __init__(self, backend, clock):
        self.seed, self.stream, self.round, self.batch_size = clock.seed, clock.stream, clock.round, clock.batch_size
        self.loss = clock.loss
        self.backend, self.order, self.epoch, self.filled = backend, None, None, None
        self._step, self._rate = backend.xp.zeros((), np.int64), backend.xp.zeros((), np.float32)
        self.step, self.rate = clock.step, clock.rate

    @property
    def step(self):
        """How many updates were done before this one."""
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self._step.fill(step)

    @property
    def rate(self):
        """The learning rate of this update."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if rate != self.filled:             # mostly it is what the step before had
            self._rate.fill(rate)
            self.filled = rate

    def lay(self, epoch: int, order: np.ndarray) -> None:
        """Bring the permutations from `epoch` on into place."""
        if self.order is None:
            self.order = self.backend.xp.empty(len(order), np.int64)
        self.backend.put(self.order, order)
        self.epoch = epoch
