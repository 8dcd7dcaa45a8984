"""`python -m helpers results`: the generated parts of RESULTS.md and README.md, with its figure, from data/runs.

Generated parts stand between markers, and end in a seal: a digest of their text and of all that they were made from.
Where one was edited by hand, or its records changed, the seal no longer fits (`broken_seals`, quick). `--check` makes
everything anew and compares.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import nbformat
import pandas as pd

from helpers import recipes
from helpers.cli.common import put_between_markers
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, replacing, shown
from helpers.plots.results import run_at_a_glance
from helpers.plots.style import png
from helpers.recipes import duration, memory, profiles
from helpers.runs import analysis, results, speed
from helpers.runs.load import SHIPPED_RUNS, Run

REPOSITORY = "https://github.com/OWNER/grpo-ecommerce-pt"
"""Where Colab opens the notebooks from; a test holds their own `REPO_URL` against it."""
README, RESULTS = PROJECT_ROOT / "README.md", PROJECT_ROOT / "RESULTS.md"
FIGURE = PROJECT_ROOT / "data" / "figures" / "v4.1.png"
NOTEBOOKS = PROJECT_ROOT / "notebooks"
CARD = "l4"
PEAK_SHARE = 3
"""A third of the peak is the slower end of what the README says of a card."""
_UNBROKEN = re.compile(r"\[[^\]]*, [^\]]*\](?!\()|\bseed \d+")
_SEAL = re.compile(r"\n\n<!-- seal \w+ -->$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file is out of date")


def run(args: argparse.Namespace) -> int:
    """Make the parts anew; write what changed, or with `--check` only name it."""
    pages, changed = make(), False
    for path, content in pages.items():
        current = path.is_file() and path.read_bytes() == content
        stale = "out of date; `python -m helpers results` renews it" if args.check else "written"
        print(f"{shown(path)}: {'as the records say' if current else stale}")
        if not current and not args.check:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        changed = changed or not current
    return int(args.check and changed)


def make() -> dict[Path, bytes]:
    """Every file that the verb writes, whole, made from the records."""
    runs = results.finished_runs(SHIPPED_RUNS)
    if not runs:
        raise UserError(f"{shown(SHIPPED_RUNS)}: no finished run to tell of; `python -m helpers train` makes one")
    shown_run = next((run for run in runs if run.recipe == "v4.1"), runs[0])
    figure, sources = png(run_at_a_glance(shown_run)), digest(*_sources())
    readme, page = (path.read_text(encoding="utf-8") for path in (README, RESULTS))
    readme = put_between_markers(readme, "figure", sealed(figure_part(shown_run, runs), sources, figure))
    readme = put_between_markers(readme, "notebooks", sealed(notebooks_part(runs), sources))
    for name, table in results.TABLES.items():
        page = put_between_markers(page, name, sealed(table_part(table(runs)), sources))
    return {FIGURE: figure, README: readme.encode(), RESULTS: page.encode()}


def figure_part(run: Run, runs: Sequence[Run]) -> str:
    """The README's figure with what it shows and of which data, and the gains of all its recipe's seeds."""
    subset, whole = len(run.answers("eval_subset", step=0)), len(analysis.values_of(analysis.end_rewards(run)))
    return "\n".join(
        [
            f"![Learning curves and gains of a {run.recipe.upper()} run]({shown(FIGURE)})",
            "",
            f"*One run of {run.recipe.upper()} on the simulated shop, profile `{run.config['profile']['name']}`:",
            f"[{run.where}]({run.where}). Left: {subset} eval prompts, sampled at temperature 1, every",
            f"{run.eval_every} steps. Right: all {whole} eval prompts, end minus start, with 95 % intervals. Drawn by",
            "`python -m helpers results`.*",
            "",
            markdown(_gain_by_task([other for other in runs if other.recipe == run.recipe])),
        ]
    )


def _gain_by_task(runs: Sequence[Run]) -> pd.DataFrame:
    """The gain of each task (rows), sampled and greedy (columns), and the share of answers cut at the limit in the end,
    as means of all seeds where there are several."""
    last = results.gains(runs).groupby(level="answers", sort=False).tail(1)
    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    title = f"gain of {runs[0].recipe.upper()}, {seeds}, {last['n'].iloc[0]} prompts"
    table = last.drop(columns="n").droplevel(["recipe", "seed"]).T.rename_axis(title, axis="index")
    cut = {f"cut at the limit, {name}": _cut_at_the_end(runs, mode) for mode, name in analysis.ANSWERS.items()}
    return table.assign(**{name: pd.Series(shares) for name, shares in cut.items()}).fillna("-")


def _cut_at_the_end(runs: Sequence[Run], mode: str) -> dict[str, str]:
    """Task -> share of the last answers that were cut at the limit, in percent: the mean over runs."""
    ends = pd.DataFrame(
        {task: share.end.mean for task, share in analysis.cut_shares(run, mode).items()} for run in runs
    ).mean()
    return {str(task): f"{share:.0%}" for task, share in ends.items()}


def notebooks_part(runs: Sequence[Run]) -> str:
    """The README's table of notebooks: what each takes on a CPU and on an L4, and where it opens in Colab."""
    rows = [
        {
            "notebook": f"[{path.stem.split('_')[0]} · {title}](notebooks/{path.name})",
            "on two CPU cores": _on_cpu(path.stem.split("_")[0], measured, runs),
            "on one L4, computed": _on_card(path.stem.split("_")[0], runs),
            "in Colab": f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({_colab(path)})",
        }
        for path, title, measured in _notebooks()
    ]
    return markdown(pd.DataFrame(rows).set_index("notebook"))


def table_part(table: pd.DataFrame) -> str:
    """A table of RESULTS.md; a number of prompts or tokens that is the same in every row is said once, above it."""
    if table.empty:
        return "No record."
    units = {"n": "prompts", "limit": "tokens"}
    same = [name for name in units if name in table and table[name].nunique() == 1]
    said = ", ".join(f"{name} = {table[name].iloc[0]} {units[name]}" for name in same)
    return f"{said}\n\n{markdown(table.drop(columns=same))}".lstrip()


def markdown(table: pd.DataFrame) -> str:
    """A table of text in Markdown, its index on the left, where what the row above says is not said again.

    >>> rows = pd.DataFrame({"run": ["a", "a"], "task": ["sql_qa", "push"], "n": ["65", "65"]})
    >>> print(markdown(rows.set_index(["run", "task"])))
    | run | task | n |
    |---|---|---|
    | a | sql_qa | 65 |
    |  | push | 65 |
    """
    levels = table.index.nlevels
    rows = table.reset_index().to_numpy().tolist()
    lines = [_cells([*table.index.names, *table.columns]), "|" + "---|" * (levels + table.shape[1])]
    for above, row in zip([[None] * levels, *rows], rows, strict=False):
        said = next((level for level in range(levels) if above[level] != row[level]), levels)
        lines.append(_cells([""] * said + row[said:]))
    return "\n".join(lines)


def _cells(texts: Sequence[str]) -> str:
    """A row of a Markdown table. An interval's bounds stay on one line, and a seed's number beside its name."""
    unbroken = (_UNBROKEN.sub(lambda found: found.group().replace(" ", "\N{NO-BREAK SPACE}"), text) for text in texts)
    return f"| {' | '.join(unbroken)} |"


def _on_cpu(number: str, measured: dict[str, int], runs: Sequence[Run]) -> str:
    """What the executed notebook says of itself; else what is known of the runs that it trains."""
    if measured:
        return f"{max(1, round(measured['seconds'] / 60))} min"
    trained = [run for run in runs if run.recipe in results.NOTEBOOKS.get(number, ())]
    longest = max((sum(speed.seconds_spent(run)) / 60 for run in trained), default=0.0)
    return f"not measured; its longest run {longest:.0f} min" if longest else "not measured"


def _on_card(number: str, runs: Sequence[Run]) -> str:
    """Hours of the notebook's longest run at the card's peak and at a third of it, and the peak of the memory plan."""
    trained = [recipes.get(name) for name in results.NOTEBOOKS.get(number, ())]
    if not trained:
        return "no training"
    tokens = pd.concat([run.evals["prompt_tokens"] for run in runs if "prompt_tokens" in run.evals]).mean()
    longest = max(trained, key=lambda recipe: recipe.max_steps * recipe.completions_per_step)
    shape = memory.shape_of(longest)
    profile, _ = memory.adapt(longest, shape, profiles.get(CARD))
    plan = memory.plan(longest, shape, profile)
    hours = longest.max_steps * duration.step_seconds(longest, profile, tokens) / 3600
    return f"{hours:.1f} to {PEAK_SHARE * hours:.1f} h; {plan.peak:.0f} GiB"


def _notebooks() -> Iterator[tuple[Path, str, dict[str, int]]]:
    """Each notebook of the series with its title, and how long it took where that was measured."""
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        yield (
            path,
            notebook.cells[0].source.splitlines()[0].partition(" · ")[2],
            dict(notebook.metadata.get("measured", {})),
        )


def _colab(path: Path) -> str:
    """Where a notebook of the repository opens in Colab."""
    return f"{REPOSITORY.replace('https://github.com', 'https://colab.research.google.com/github')}/blob/main/{shown(path)}"


def sealed(part: str, sources: str, *files: bytes) -> str:
    """A part and its seal: a digest of its text, of the files that belong to it, and of what it was made from."""
    return f"{part}\n\n<!-- seal {digest(part.encode(), sources.encode(), *files)} -->"


def broken_seals() -> list[str]:
    """The generated parts whose seal does not fit them: edited by hand, or made from other records."""
    names = [(README, "figure"), (README, "notebooks"), *((RESULTS, name) for name in results.TABLES)]
    sources, broken = digest(*_sources()), []
    for page, name in names:
        part = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]
        files = [FIGURE.read_bytes()] if name == "figure" else []
        if sealed(_SEAL.sub("", part), sources, *files) != part:
            broken.append(f"{shown(page)}, {name}")
    return broken


def _sources() -> Iterator[bytes]:
    """All that the parts are made from: shipped records, pairs, policies' cards, what notebooks say of themselves."""
    data, written_here = PROJECT_ROOT / "data", SHIPPED_RUNS / "gpu"
    kinds = ("runs/**/*.json*", "pairs/*.jsonl", "policies/*/embedded.json", "policies/*/README.md")
    for path in (path for kind in kinds for path in sorted(data.glob(kind))):
        if not path.is_relative_to(written_here):
            yield shown(path).encode()
            yield path.read_bytes()
    for path, title, measured in _notebooks():
        yield json.dumps([path.name, title, measured]).encode()


def digest(*parts: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all parts, each told apart from the next."""
    whole = sha256()
    for part in parts:
        whole.update(sha256(part).digest())
    return whole.hexdigest()[:16]
