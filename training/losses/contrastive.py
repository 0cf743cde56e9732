"""The contrastive 2D-3D objective (InfoNCE)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.losses.segmentation import in_fp32


@in_fp32
def contrastive(lidar: Tensor, image: Tensor, point: Tensor, temperature: float) -> Tensor:
    """InfoNCE between points and their views, and between the two views of a point (van den Oord et al. 2018).

    The mean of three terms: retrieval of a point's views among all views, of a view's point among all points, and of
    the other view of a point seen by two cameras. A point with several views has several positives, whose terms are
    averaged (Khosla et al. 2020, eq. 2). The third term is omitted if no point has two views.

    Args:
        lidar: (M, D) unit-length features of points from the LiDAR branch.
        image: (V, D) unit-length features of views of these points from images.
        point: (V,) row of ``lidar`` that each view shows; every row has a view.
        temperature: lower values give hard pairs more weight.
    """
    similarity = lidar @ image.T / temperature
    views = torch.bincount(point, minlength=len(lidar))
    to_views = -similarity.log_softmax(dim=1)[point, torch.arange(len(point), device=point.device)] / views[point]
    terms = [to_views.sum() / len(lidar), F.cross_entropy(similarity.T, point)]
    several = views[point] > 1
    if several.any():
        between_views = (image @ image.T / temperature).fill_diagonal_(float("-inf")).log_softmax(dim=1)
        positives = (point[:, None] == point).fill_diagonal_(False) & several
        per_view = between_views.masked_fill(~positives, 0).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
        terms.append(-per_view[several].mean())
    return torch.stack(terms).mean()


_PROJECTION_DIM = 32
"""Dimensions of the common space."""


class Contrast(nn.Module):
    """InfoNCE between the LiDAR and image features of the same points.

    Both are projected to a common space. Positives are a point and its views, and the two views of a point seen by two
    cameras; all other points and views of the batch are negatives.

    Args:
        width: LiDAR features of a point.
        features: image features of a view.
        temperature: of the loss.
    """

    max_points = 1024

    def __init__(self, width: int, features: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.from_lidar, self.from_image = nn.Linear(width, _PROJECTION_DIM), nn.Linear(features, _PROJECTION_DIM)

    def forward(self, point_features: Tensor, views: Tensor) -> Tensor:
        """Loss of LiDAR features (B, P, width) against image features (B, P, 2, F + 1) of views, with a mask."""
        pairs = views.flatten(0, 1)
        visible = torch.nonzero((pairs[..., -1] > 0).any(dim=1))[:, 0]
        if len(visible) < 2:
            return point_features.sum() * 0.0
        # An even stride suffices, as points are in random order, and a resumed run selects the same points.
        visible = visible[:: -(-len(visible) // self.max_points)]
        point, view = torch.nonzero(pairs[visible, :, -1] > 0, as_tuple=True)
        lidar = F.normalize(self.from_lidar(point_features.flatten(0, 1)[visible]), dim=1)
        image = F.normalize(self.from_image(pairs[visible[point], view, :-1]), dim=1)
        return contrastive(lidar, image, point, self.temperature)
