"""What training makes small, one file for each kind; all that there are, by name, in explicit lists."""

from sr_core.train.losses.adversarial import ADVERSARIAL_LOSSES, AdversarialLoss, adversarial_loss
from sr_core.train.losses.feature_networks import FEATURE_NETWORKS
from sr_core.train.losses.penalty import gradient_penalty
from sr_core.train.losses.perceptual import (
    Distance,
    FeatureLossConfig,
    LpipsLoss,
    classifier_loss,
    feature_matching,
    load_feature_loss,
)
from sr_core.train.losses.pixel import PIXEL_LOSSES, PixelLoss, pixel_terms
from sr_core.train.losses.weighted import Loss, Term, WeightedLoss

__all__ = [
    "ADVERSARIAL_LOSSES",
    "FEATURE_NETWORKS",
    "PIXEL_LOSSES",
    "AdversarialLoss",
    "Distance",
    "FeatureLossConfig",
    "Loss",
    "LpipsLoss",
    "PixelLoss",
    "Term",
    "WeightedLoss",
    "adversarial_loss",
    "classifier_loss",
    "feature_matching",
    "gradient_penalty",
    "load_feature_loss",
    "pixel_terms",
]
