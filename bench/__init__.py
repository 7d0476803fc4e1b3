"""Measurements of netctl against plain tools, each a ratio taken in one run: `make bench`.

In: the benchmarks and the references that they are compared with. Out: tests (nothing here passes or
fails unless `--check` asks for it), and docs/measurements.md, which quotes what this prints.
"""
