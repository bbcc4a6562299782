"""minirewind: retraining pruned networks three ways, on an autograd you can read.

    import minirewind as mr

Everything is reached through its module: mr.tensor.Tensor, mr.models.resnet, mr.retrain.lr_rewinding, ...
"""

from . import (
    data,
    figures,
    files,
    filters,
    functional,
    kernels,
    models,
    nn,
    optim,
    page,
    prune,
    published,
    report,
    retrain,
    sparse,
    speed,
    study,
    tensor,
    trackers,
    train,
)
from .errors import Error

__version__ = "0.1.0"

__all__ = ["Error", "data", "figures", "files", "filters", "functional", "kernels", "models", "nn", "optim", "page",
           "prune", "published", "report", "retrain", "sparse", "speed", "study", "tensor", "trackers", "train"]
