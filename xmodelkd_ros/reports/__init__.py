"""Reports of a run: metrics, charts, plots of sweeps, HTML pages and Markdown tables."""
