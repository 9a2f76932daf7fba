"""How good predictions are: metrics, error analysis, results files, the report."""
