"""Loss on what an image network sees: classes that each stand for a set of ours, and are wrong now and then."""

from __future__ import annotations

from torch import Tensor

from training.losses.segmentation import in_fp32


@in_fp32
def image_label_loss(logits: Tensor, said: Tensor, weights: Tensor, confusion: Tensor) -> Tensor:
    """Weighted mean of -log P(said), where P(said) is the sum over the classes of P(said | class) P(class).

    The forward correction of label noise (Patrini et al. 2017). With P(said | class) = 1 for the classes of a set, it
    is the loss of partial labels, the negative logarithm of the set's probability.

    Args:
        logits: (N, C).
        said: (N,) number of what the network says, 0 to G - 1.
        weights: (N,).
        confusion: (C, G) P(said | class), positive.
    """
    probability = (logits.softmax(dim=1) @ confusion).gather(1, said.long()[:, None])[:, 0]
    return -(weights * probability.log()).sum() / weights.sum().clamp(min=1e-6)
