"""From drives to training samples: sources, sweeps, augmentation, crops and the feature bank."""
