"""`python -m helpers doctor`: what this machine is, and what is off."""

import argparse

HELP = "tell what this machine is, which profile it gets, and what is off"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    """Print every check; 1 where something essential is off."""
    from helpers import doctor

    checks = doctor.examine()
    off = [check.name for check in checks if check.state == "off"]
    if args.json:
        print(doctor.as_json(checks))
        return int(bool(off))
    for check in checks:
        remedy = f" -> {check.remedy}" if check.remedy else ""
        print(f"{check.state:<5} {check.name:<13} {check.value}{remedy}")
    print(f"off: {', '.join(off)}" if off else "nothing essential is off")
    return int(bool(off))
