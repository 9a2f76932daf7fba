"""Benchmarks, which compare times within one run. Each module is a program: python -m benchmarks.NAME --help."""
