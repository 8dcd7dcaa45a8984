"""What the four task modules hand to `generate_pairs`: drafts, still without an id or a split."""

from dataclasses import dataclass
from typing import Any

from helpers.tasks.spec import build_prompt

MAX_USER_CHARACTERS = 600
EVERYTHING = "1"  # a WHERE condition that keeps all rows


@dataclass(frozen=True)
class Draft:
    """A record to be: the user's text, the reference and the meta."""

    task: str
    user_text: str
    reference: dict[str, Any]
    meta: dict[str, Any]

    def record(self, identity: str) -> dict[str, Any]:
        """The draft as a row of pairs."""
        prompt = build_prompt(self.task, self.user_text)
        return {"id": identity, "task": self.task, "prompt": prompt, "reference": self.reference, "meta": self.meta}
