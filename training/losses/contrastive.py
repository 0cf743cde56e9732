"""The contrastive 2D-3D objective (InfoNCE)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.losses.segmentation import _in_fp32


@_in_fp32
def contrastive(shape: Tensor, colour: Tensor, point: Tensor, temperature: float) -> Tensor:
    """InfoNCE between points and their views, and between the two views of a point (van den Oord et al. 2018).

    Mean of three parts: each point finds its views among all views, each view its point among all points, each view of
    a point that two cameras see the other one. A point with several views has several positives: the mean of
    their terms (Khosla et al. 2020, eq. 2). The third part is left out where no point has two views.

    Args:
        shape: (M, D) features of unit length that the LiDAR branch gives to points.
        colour: (V, D) features of unit length that images give to views of them.
        point: (V,) the row of ``shape`` that each view shows; every row has a view.
        temperature: the smaller, the more the hardest pairs count.
    """
    similarity = shape @ colour.T / temperature
    views = torch.bincount(point, minlength=len(shape))
    to_views = -similarity.log_softmax(dim=1)[point, torch.arange(len(point), device=point.device)] / views[point]
    parts = [to_views.sum() / len(shape), F.cross_entropy(similarity.T, point)]
    several = views[point] > 1
    if several.any():
        alike = (colour @ colour.T / temperature).fill_diagonal_(float("-inf")).log_softmax(dim=1)
        others = (point[:, None] == point).fill_diagonal_(False) & several
        parts.append(-(alike.masked_fill(~others, 0).sum(dim=1) / others.sum(dim=1).clamp(min=1))[several].mean())
    return torch.stack(parts).mean()


class Contrast(nn.Module):
    """InfoNCE between what the LiDAR branch and the image branch say of the same points.

    Both are brought to one space; a point and its views are pairs, and the two views of a point that two cameras see;
    the others of the batch are the negatives.

    Args:
        width: features of a pixel of the LiDAR branch.
        features: image features of a view.
        temperature: of the loss.
        space: dimensions of the common space.
    """

    most_points = 1024

    def __init__(self, width: int, features: int, temperature: float, space: int = 32) -> None:
        super().__init__()
        self.temperature = temperature
        self.from_lidar, self.from_image = nn.Linear(width, space), nn.Linear(features, space)

    def forward(self, at_points: Tensor, views: Tensor) -> Tensor:
        """Loss of features (B, P, width) of points against image features (B, P, 2, F + 1) of views with a mask."""
        pairs = views.flatten(0, 1)
        seen = torch.nonzero((pairs[..., -1] > 0).any(dim=1))[:, 0]
        if len(seen) < 2:
            return at_points.sum() * 0.0
        # Evenly, as the points come in random order: a run that is resumed takes the same.
        seen = seen[:: -(-len(seen) // self.most_points)]
        point, view = torch.nonzero(pairs[seen, :, -1] > 0, as_tuple=True)
        shape = F.normalize(self.from_lidar(at_points.flatten(0, 1)[seen]), dim=1)
        colour = F.normalize(self.from_image(pairs[seen[point], view, :-1]), dim=1)
        return contrastive(shape, colour, point, self.temperature)
