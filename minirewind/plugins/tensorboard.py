"""TensorBoard as a tracker of studies: `pip install tensorboardX`, then

    study.run(wanted, "results/mine", tracker=TensorBoard("logs"))

and `tensorboard --logdir logs`. By name it is "minirewind.plugins.tensorboard:TensorBoard", and writes to the folder
tensorboard.
"""

import json
from pathlib import Path
from typing import Any

from ..errors import Error


class TensorBoard:
    """Every run in a folder of its own under `folder`."""

    def __init__(self, folder="tensorboard"):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as reason:
            raise Error("this tracker needs tensorboardX: pip install tensorboardX") from reason
        self.folder, self.make = Path(folder), SummaryWriter
        self.writer: Any = None

    def init(self, project: str, name: str, config: dict) -> None:
        """Begin a run."""
        self.writer = self.make(str(self.folder / project / name))
        self.writer.add_text("settings", json.dumps(config, indent=1, default=str))

    def log(self, values: dict, step: int) -> None:
        """The numbers of one step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """End the run; what was logged is on the disk."""
        self.writer.close()
