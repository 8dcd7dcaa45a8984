"""The tables of RESULTS.md, one function each, made from run records alone.

Every number comes from `analysis`, `compare`, `decision` or `speed`; here they are only put side by side. More records
give more rows, and none a table without rows.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from helpers.core.files import PROJECT_ROOT, shown
from helpers.core.stats import Interval
from helpers.recipes import RECIPES, fix_trials
from helpers.rewards import parser_of
from helpers.runs import analysis, compare, decision, speed
from helpers.runs.analysis import ALL
from helpers.runs.compare import Comparison, Measured
from helpers.runs.load import SHIPPED_RUNS, Run, evaluated_steps, find_runs, load_run, policies_of
from helpers.tasks import TASKS

MODES = tuple(analysis.ANSWERS)
VERSIONS = ("v4", "v4.1", "v4.2")
NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "02": ("v4", "v4.1"),
    "04a": ("v4.2a",),
    "04b": ("v4.2b", "v4.2b-cold"),
    "04c": tuple(trial.name for task in TASKS for trial in fix_trials(task)),
}
"""The recipes that a notebook of the series trains; 04c trains one of these."""
ENGINE_GAPS = ("engine, trainer", "trainer, plain forward", "engine, plain")
"""Mean absolute differences between two computations of the same tokens' log-probabilities."""
_ROWS = (ALL, *TASKS)


def finished_runs(root: Path) -> list[Run]:
    """The finished runs directly in `root` that answered the whole eval split, by recipe and seed."""
    runs = [load_run(folder) for folder in find_runs(root) if folder.parent == root]
    order = list(dict.fromkeys([*RECIPES, *NOTEBOOKS["04c"]]))
    key = {run.name: (order.index(run.recipe) if run.recipe in order else len(order), _seed(run)) for run in runs}
    return sorted((run for run in runs if analysis.end_split(run) == "eval"), key=lambda run: (key[run.name], run.name))


def _trained_in(number: str, runs: Sequence[Run]) -> list[Run]:
    """The runs whose recipe belongs to a notebook."""
    return [run for run in runs if run.recipe in NOTEBOOKS[number]]


def _beside(recipe: str, own: Sequence[Run], runs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Each run of `own` after the run of `recipe` that it is compared with, where there is one."""
    return [(other, run) for run in own for other in partner(run, recipe, runs)]


def records(runs: Sequence[Run]) -> pd.DataFrame:
    """What each run is, and how long it took."""
    return _table(["record"], map(_record, runs))


def _record(run: Run) -> dict[str, str]:
    steps, evaluations = speed.seconds_spent(run)
    return {
        "record": f"[{run.name}](data/runs/{run.name})",
        "recipe": run.recipe,
        "seed": str(_seed(run)),
        "base": _base(run),
        "steps": str(run.last_step),
        "minutes": f"{(steps + evaluations) / 60:.1f}" if steps else speed.NOT_RECORDED,
        "evaluation": f"{speed.evaluation_share(run):.0%}" if steps else speed.NOT_RECORDED,
    }


def commands(runs: Sequence[Run]) -> pd.DataFrame:
    """The command and the commit that made each run."""
    rows = (
        {"record": run.name, "command": _command(run), "commit": str(run.config.get("git_commit") or "unknown")[:7]}
        for run in runs
    )
    return _table(["record"], rows)


def _command(run: Run) -> str:
    command = str(run.config.get("command") or "unknown")
    number = next((number for number, names in NOTEBOOKS.items() if run.recipe in names), "")
    return f"`make series`, notebook {number}" if command == "a notebook" and number else f"`{command}`"


def base_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean reward of each base policy by task and decoding, under every reward version."""
    return _table(["base", "answers", "task"], (row for run in _first_of_each_base(runs) for row in _base_rows(run)))


def _first_of_each_base(runs: Sequence[Run]) -> list[Run]:
    """One run for each base policy; where runs begin with a warm-up, its record, which holds what came before."""
    firsts: dict[str, Run] = {}
    for run in runs:
        if _base(run) not in firsts:
            warm_up = run.path / "warmup"
            firsts[_base(run)] = load_run(warm_up) if warm_up.is_dir() else run
    return list(firsts.values())


def _base_rows(run: Run) -> Iterator[dict[str, str]]:
    for mode in MODES:
        if 0 in evaluated_steps(run, "eval", mode):
            rewards = {
                version: compare.rewards_under(run, 0, Measured("eval", mode, version, parser_of(version)))
                for version in VERSIONS
            }
            for task in _ROWS:
                means = {version: analysis.task_interval(rewards[version], task) for version in VERSIONS}
                start = {
                    "base": _base(run),
                    "answers": analysis.ANSWERS[mode],
                    "task": task,
                    "n": str(means[VERSIONS[0]].n),
                }
                yield start | {version: str(mean) for version, mean in means.items()}


def gains(runs: Sequence[Run]) -> pd.DataFrame:
    """The paired gain of each run over its start, and the mean of a recipe's seeds where there are several."""
    recipes = dict.fromkeys(run.recipe for run in runs)
    rows = (row for recipe in recipes for mode in MODES for row in _gain_rows(_of(recipe, runs), mode))
    return _table(["recipe", "answers", "seed"], rows)


def _gain_rows(runs: Sequence[Run], mode: str) -> Iterator[dict[str, str]]:
    twice = [run for run in runs if len(evaluated_steps(run, "eval", mode)) > 1]
    for run in twice:
        yield _gain_row(run.recipe, str(_seed(run)), mode, analysis.gains(run, "eval", mode))
    if len(twice) > 1 and all(compare.same_eval_set(twice[0], run) for run in twice):
        yield _gain_row(twice[0].recipe, f"mean of {len(twice)}", mode, gains_over_seeds(twice, mode))


def gains_over_seeds(runs: Sequence[Run], mode: str) -> dict[str, analysis.Gain]:
    """The paired gains of several seeds' runs together: a prompt's reward is its mean over seeds and answers."""
    ends = []
    for at in (0, -1):
        answers = [run.answers("eval", mode, step=evaluated_steps(run, "eval", mode)[at]) for run in runs]
        ends.append(analysis.rewards_by_prompt(pd.concat(answers)[["task", "record_id", "total"]].to_dict("records")))
    return analysis.paired_gains(*ends)


def _gain_row(recipe: str, seed: str, mode: str, own: dict[str, analysis.Gain]) -> dict[str, str]:
    start = {"recipe": recipe, "answers": analysis.ANSWERS[mode], "seed": seed, "n": str(own[ALL].difference.n)}
    return start | {task: marked(own[task].difference) if task in own else "-" for task in _ROWS}


def differences(pairs: Iterable[tuple[Run, Run]]) -> pd.DataFrame:
    """How far the end of each pair's second run lies above that of the first, under v4.1 and v4.2."""
    return _compared((_names(second, first), compare.ends(first, second)) for first, second in pairs)


def own_differences(runs: Iterable[Run]) -> pd.DataFrame:
    """How far each run's last sampled answers lie above its first, under v4.1 and v4.2."""
    return _compared((_name(run), compare.start_and_end(run)) for run in runs)


def _compared(named: Iterable[tuple[str, Sequence[Comparison]]]) -> pd.DataFrame:
    return _table(["runs", "scored by"], (row for names, ends in named for row in _difference_rows(names, ends)))


def _difference_rows(names: str, compared: Sequence[Comparison]) -> Iterator[dict[str, str]]:
    """A row per reward version."""
    for version in dict.fromkeys(comparison.version for comparison in compared):
        own = {comparison.task: comparison.difference for comparison in compared if comparison.version == version}
        start = {"runs": names, "scored by": version, "n": str(own[ALL].n)}
        yield start | {task: marked(own[task]) for task in _ROWS}


def partner(run: Run, recipe: str, runs: Sequence[Run]) -> list[Run]:
    """The run of `recipe` to compare `run` with, none or one: of the same eval set, and of the same seed if possible.

    V4 is a reference for its own base policy alone.
    """
    others = [other for other in _of(recipe, runs) if other is not run and compare.same_eval_set(other, run)]
    if recipe == "v4":
        others = [other for other in others if policies_of(other.config) == policies_of(run.config)]
    return sorted(others, key=lambda other: _seed(other) != _seed(run))[:1]


def parser_effects(runs: Sequence[Run]) -> pd.DataFrame:
    """Of each run's change in extraction reward, what the parser made and what learning made."""
    rows = []
    for run in runs:
        found = decision.effects(run)
        if found:
            rows.append(
                {
                    "run": _name(run),
                    "n": str(found.parser.n),
                    "V4's parser": f"{found.means['regex'][0].mean:.3f}",
                    "the handoff's": f"{found.means['handoff'][0].mean:.3f}",
                    "ours": f"{found.means['tolerant'][0].mean:.3f}",
                    "parser effect": marked(found.parser),
                    "learning effect": marked(found.learning),
                    "both": marked(found.total),
                    "learning, V4's parser": marked(found.learning_as_v4),
                }
            )
    return _table(["run"], rows)


def cut_answers(runs: Sequence[Run]) -> pd.DataFrame:
    """Share of answers that were cut at the completion limit, start to end of each run."""
    return _table(["run", "answers"], (row for run in runs for mode in MODES for row in _cut_rows(run, mode)))


def _cut_rows(run: Run, mode: str) -> Iterator[dict[str, str]]:
    if len(evaluated_steps(run, "eval", mode)) < 2:
        return
    subset = [
        analysis.cut_by_prompt(run, step, "eval_subset", mode) for step in evaluated_steps(run, "eval_subset", mode)
    ]
    limit = run.config.get("recipe", {}).get("max_completion_length", "?")
    row = {"run": _name(run), "answers": analysis.ANSWERS[mode], "limit": str(limit)}
    shares = analysis.cut_shares(run, mode)
    row |= {"n": str(shares[ALL].end.n)} | {task: str(share) for task, share in shares.items()}
    training = ", ".join(f"{100 * _mean(analysis.values_of(rewards)):.0f}" for rewards in subset)
    yield row | {"in training": f"{training} %" if training else "-"}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def warm_up_stages(runs: Sequence[Run]) -> pd.DataFrame:
    """Extraction of the base model, after the warm-up, after GRPO, and after GRPO without the warm-up."""
    rows = []
    for run in runs:
        for mode in MODES:
            warm = (run.path / "warmup").is_dir()
            stages = compare.stages(run.path, mode) if warm else [compare.stage(run, "GRPO alone", run.max_steps, mode)]
            for stage in stages:
                row = {"run": _name(run), "stage": stage.name, "answers": analysis.ANSWERS[mode]}
                rows.append(
                    row
                    | {"n": str(stage.reward.n), "objects read": stage.parsed.percent(), "reward": str(stage.reward)}
                )
    return _table(["run", "stage", "answers"], rows)


def decisions(pairs: Iterable[tuple[Run, Run]]) -> pd.DataFrame:
    """What the tree makes of each pair's second run, a V4.1 run, with the first, a V4 run, as its reference."""
    rows = []
    for v4, run in pairs:
        decided = decision.decide(run, decision.reference_from(v4))
        answers = {"run": _name(run), "scenario": decided.scenario, "meaning": decided.title}
        rows.append(answers | {"reference": decided.reference})
    return _table(["run"], rows)


def engines(folder: Path = SHIPPED_RUNS / "engines") -> pd.DataFrame:
    """Every backend's row of `make test-engines`, by the shape of the model."""
    return _table(["model", "backend"], (row for path in sorted(folder.glob("*.json")) for row in _engine_rows(path)))


def _engine_rows(path: Path) -> Iterator[dict[str, str]]:
    for row in json.loads(path.read_text(encoding="utf-8")).get("backends", []):
        gaps = row["gaps"]
        yield {
            "model": path.stem,
            "backend": row["backend"],
            "steps": str(row["steps"]),
            "seconds per step": f"{row['step_s']:.1f}",
            **{name: f"{gaps[name]:.1e}" if name in gaps else "no engine" for name in ENGINE_GAPS},
            "greedy answers": str(row["greedy_answers"]),
        }


def policies(folder: Path = PROJECT_ROOT / "data" / "policies") -> pd.DataFrame:
    """What each shipped embedded policy was made of, from its card."""
    rows = []
    for path in sorted(folder.glob("*/embedded.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        rows.append(
            {
                "policy": f"[{path.parent.name}]({shown(path.parent)}/README.md)",
                "parameters": f"{card['parameters']:,}",
                "vocabulary": f"{card['vocabulary']:,}",
                "records": f"{sum(card['records'].values()):,}",
                "steps": f"{sum(stage['steps'] for stage in card['stages']):,}",
                "tokens": f"{sum(stage['tokens'] for stage in card['stages']):,}",
            }
        )
    return _table(["policy"], rows)


def habits(folder: Path = PROJECT_ROOT / "data" / "policies") -> pd.DataFrame:
    """The habits and their rates, as the first model card that has them shows them."""
    for path in sorted(folder.glob("*/README.md")):
        section = path.read_text(encoding="utf-8").partition("\n## Habits\n")[2].partition("\n## ")[0]
        lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        if lines:
            names, _, *rows = lines
            return _table(names[:2], (dict(zip(names, row, strict=True)) for row in rows))
    return pd.DataFrame()


def marked(difference: Interval) -> str:
    """A difference with its signs, in bold where its interval leaves 0 out.

    >>> marked(Interval(0.17, 0.15, 0.19, 260)), marked(Interval(0.01, -0.15, 0.19, 260))
    ('**+0.170** [+0.150, +0.190]', '+0.010 [-0.150, +0.190]')
    """
    mean, bounds = difference.signed().split(" ", 1)
    return f"**{mean}** {bounds}" if difference.low > 0 or difference.high < 0 else difference.signed()


def _of(recipe: str, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.recipe == recipe]


def _seed(run: Run) -> int:
    return int(run.config.get("seed") or 0)


def _name(run: Run) -> str:
    return f"{run.recipe}, seed {_seed(run)}"


def _names(run: Run, minus: Run) -> str:
    if _seed(run) == _seed(minus):
        return f"{run.recipe} − {_name(minus)}"
    return f"{_name(run)} − {_name(minus)}"


def _base(run: Run) -> str:
    return Path(str(run.config.get("base_policy") or "unknown")).name


def _table(index: list[str], rows: Iterable[dict[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows))
    return table.set_index(index) if len(table) else table


TABLES: dict[str, Callable[[Sequence[Run]], pd.DataFrame]] = {
    "records": records,
    "commands": commands,
    "policies": lambda _: policies(),
    "habits": lambda _: habits(),
    "base policies": base_scores,
    "gains": lambda runs: gains(_trained_in("02", runs)),
    "became right": lambda runs: own_differences(_of("v4.1", runs)),
    "beside v4": lambda runs: differences(_beside("v4", _of("v4.1", runs), runs)),
    "parser": lambda runs: parser_effects(_trained_in("02", runs)),
    "cut answers": cut_answers,
    "decisions": lambda runs: decisions(_beside("v4", _of("v4.1", runs), runs)),
    "04a gains": lambda runs: gains(_trained_in("04a", runs)),
    "04a beside v4.1": lambda runs: differences(_beside("v4.1", _trained_in("04a", runs), runs)),
    "04b stages": lambda runs: warm_up_stages(_trained_in("04b", runs)),
    "04b gains": lambda runs: gains(_trained_in("04b", runs)),
    "04b beside v4.1": lambda runs: differences(_beside("v4.1", _trained_in("04b", runs), runs)),
    "04c beside v4.1": lambda runs: differences(_beside("v4.1", _trained_in("04c", runs), runs)),
    "engines": lambda _: engines(),
}
"""Each table of RESULTS.md by the name of its markers."""
