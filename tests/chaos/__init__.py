"""Real processes, killed on a seeded schedule, and a check from outside that nothing was lost.

`python -m tests.chaos.run` (`make chaos`) runs the long form and writes docs/reliability.md; the short form is a test.
"""
