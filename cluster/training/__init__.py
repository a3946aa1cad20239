"""Training runs: what is trained, on what pictures, and what is kept of it, wherever that lies."""

from cluster.training.job import PixelStage, TrainJob
from cluster.training.run import train

__all__ = ["PixelStage", "TrainJob", "train"]
