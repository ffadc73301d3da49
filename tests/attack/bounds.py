"""How much each attack sends: little in `make test`, more in `make attack`."""

from __future__ import annotations

import os

LONG = os.environ.get("DARKROOM_ATTACK") == "long"
FLOOD = 2000 if LONG else 200  # requests, connections or guesses of one attack
AT_ONCE = 32 if LONG else 12  # threads that send them
