"""Attacks on a whole running service, as a hostile client would make them: bounded, and on loopback only.

`make test` runs the short form, `make attack` the long one (DARKROOM_ATTACK=long).
"""
