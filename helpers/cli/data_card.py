"""The generated parts of `data/README.md`: the counts, the comparison with the facts, the figure."""

from contextlib import closing
from pathlib import Path

import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, replacing, write_text
from helpers.plots.data import plot_shop
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, SPLITS, count_by_task, load_split
from helpers.tasks.shop.database import connect
from helpers.tasks.shop.describe import compare_with_facts, comparison_table

CARD = PROJECT_ROOT / "data" / "README.md"


def counts_table(pairs_dir: Path = PAIRS_DIR) -> str:
    """How many records each split and task have, as a Markdown table."""
    lines = [f"| split | {' | '.join(TASKS)} | all |", "|---|" + "---:|" * (len(TASKS) + 1)]
    for name in SPLITS:
        counts = count_by_task(load_split(name, pairs_dir))
        lines.append(f"| {name} | {' | '.join(str(counts[task]) for task in TASKS)} | {sum(counts.values())} |")
    return "\n".join(lines)


def renew_card(db_path: Path, pairs_dir: Path, card: Path = CARD) -> list[Path]:
    """Rewrite the generated tables of the data card and its figure; the files written.

    Raises `UserError` where the card has lost a marker (`<!-- name -->` ... `<!-- /name -->`).
    """
    text = card.read_text(encoding="utf-8")
    text = put_between_markers(text, "counts", counts_table(pairs_dir))
    text = put_between_markers(text, "comparison", comparison_table(compare_with_facts(db_path)))
    image = card.parent / "figures" / "shop.png"
    with closing(connect(db_path)) as db, replacing(image) as temporary:
        plot_shop(pd.read_sql("SELECT * FROM orders_enriched", db)).savefig(temporary, format="png")
    write_text(card, text)
    return [card, image]


def put_between_markers(text: str, name: str, part: str) -> str:
    """`text` with what stands between the markers of `name` replaced.

    >>> put_between_markers("<!-- n -->\\nold\\n<!-- /n -->", "n", "new")
    '<!-- n -->\\nnew\\n<!-- /n -->'
    """
    before, opening, rest = text.partition(f"<!-- {name} -->\n")
    _, closing_mark, after = rest.partition(f"<!-- /{name} -->")
    if not opening or not closing_mark:
        raise UserError(f"the data card has lost its markers <!-- {name} --> and <!-- /{name} -->")
    return f"{before}{opening}{part}\n{closing_mark}{after}"
