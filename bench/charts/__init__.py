"""Charts for docs/benchmarks.md, each drawn from the figures of a table that stands there."""
