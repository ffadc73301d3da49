"""Draw the charts of docs/benchmarks.md anew, from the tables that stand there: after a change by hand.

python -m bench.charts
"""

from bench.report import redraw

if __name__ == "__main__":
    redraw()
