"""The door of the `darkroom` command."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line. Until a command says otherwise, Ctrl-C just ends us: also while Python imports."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.group import darkroom

    darkroom()


if __name__ == "__main__":
    main()
