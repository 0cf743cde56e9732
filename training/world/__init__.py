"""Generated drives as a dataset: ``python -m training.world``, storage, census and timing."""
