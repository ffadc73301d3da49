"""Print what an image has to install, one requirement a line: `python requirements.py [extra …] < pyproject.toml`.

The images install the dependencies in a layer of their own, which changes only when they do; pip can't install
the dependencies of a project without the project.
"""

import sys
import tomllib


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The project's own requirements and those of the extras. Raises KeyError for an extra that doesn't exist."""
    project = tomllib.loads(pyproject)["project"]
    found: list[str] = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.stdin.read(), sys.argv[1:])) + "\n")
