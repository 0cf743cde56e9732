"""Who is to be named beside a picture: for the data that it shows, and for the data that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from xmodelkd_ros.core.model_spec import DataSource


def named(source: DataSource) -> str:
    """A dataset's attribution, or its name if none is required, with its licence."""
    text = source.attribution or source.name
    return text if not source.license or source.license in text else f"{text} ({source.license})"


def credit(data: str, source: DataSource | None, model: str, training_data: Sequence[DataSource]) -> str:
    """One line for pictures: the data with its attribution, and the model with those that its training data require.

    Args:
        data: name of the data shown, such as a bag's file name.
        source: its dataset, if known.
        model: name of the model.
        training_data: the datasets that it was trained on.
    """
    of_data = f" ({named(source)})" if source is not None and source.attribution else ""
    trained_on = "; ".join(named(one) for one in training_data if one.attribution)
    return f"Data: {data}{of_data}. Model: {model}{', trained on ' if trained_on else ''}{trained_on}"
