"""`python -m helpers recipe`: a recipe printed whole, each value with its source, and what a profile changes of it."""

import argparse
import json
import textwrap
from typing import Any

from helpers import recipes
from helpers.recipes import Recipe, profiles
from helpers.recipes.profiles import Profile

WIDTH = 100
VALUE_WIDTH = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(recipes.RECIPES)}")
    parser.add_argument("--profile", default="auto", help="the machine to run it on (default auto: this one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(args: argparse.Namespace) -> int:
    """Print the recipe, then what the profile changes and why."""
    description = describe(recipes.get(args.name), profiles.get(args.profile))
    print(json.dumps(description, ensure_ascii=False, indent=2) if args.json else as_text(description))
    return 0


def describe(recipe: Recipe, profile: Profile) -> dict[str, Any]:
    """The recipe's fields, each with value and source, and what `profile` changes of them, with the reason."""
    values = recipes.values(recipe)
    name = values.pop("name")
    return {
        "recipe": name,
        "fields": {key: {"value": value, "source": recipe.sources[key]} for key, value in values.items()},
        "profile": profile.name,
        "reason": profile.reasons,
        "changes": {
            change.field: {"before": change.before, "after": change.after}
            for change in profiles.fit(recipe, profile)[1]
        },
    }


def as_text(description: dict[str, Any]) -> str:
    """The description as lines of at most `WIDTH` characters; a long value takes a line of its own."""
    fields, changes = description["fields"], description["changes"]
    name_width = max(len(key) for key in fields)
    lines = [f"recipe {description['recipe']}", ""]
    for key, row in fields.items():
        value = _shown(row["value"])
        start = f"  {key:<{name_width}}  {value:<{VALUE_WIDTH}}  "
        if len(value) > VALUE_WIDTH:
            lines.append(start.rstrip())
            start = " " * (name_width + VALUE_WIDTH + 6)
        lines += _wrapped(start, row["source"])
    effect = f"changes {len(changes)} of these {len(fields)} values" if changes else "changes nothing"
    lines += ["", *_wrapped("", f"profile {description['profile']} {effect}: {description['reason']}")]
    for key, row in changes.items():
        lines.append(f"  {key:<{name_width}}  {_shown(row['before'])} -> {_shown(row['after'])}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value == "":
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(start: str, text: str) -> list[str]:
    """`text` after `start`, wrapped so that further lines begin below its first word."""
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
