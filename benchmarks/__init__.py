"""What takes how long, as ratios within one run. Each module is a program: python -m benchmarks.NAME --help."""
