"""`python -m helpers embedded build`: make the policies of data/policies anew."""

import argparse

from helpers.cli.common import require_names
from helpers.recipes import profiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    names = ", ".join(profiles.SHIPPED)
    parser.add_argument("action", choices=["build"], help="build: hours of two cores; a build that was killed goes on")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {names} (default: all)")


def run(args: argparse.Namespace) -> int:
    """Build each policy that is named, with its scores and model card."""
    from helpers.policy.embedded import publish

    for name in args.names:
        require_names("embedded policy", name, tuple(profiles.SHIPPED))
    for name in args.names or profiles.SHIPPED:
        publish.publish(profiles.SHIPPED[name])
    return 0
