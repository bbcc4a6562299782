"""minirewind: retraining pruned networks three ways, on an autograd you can read."""
