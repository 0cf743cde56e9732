"""Losses of segmentation, distillation and the contrastive objective."""
