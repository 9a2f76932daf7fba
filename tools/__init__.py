"""Commands for datasets: python -m tools.NAME."""
