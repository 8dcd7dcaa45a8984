"""What a run gained: over its base policy, by parser and by learning, in numbers and in answers."""

import html

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.core.stats import Interval
from helpers.plots.style import MUTED, name_rows, panel, task_color, task_label
from helpers.runs import analysis
from helpers.runs.analysis import ALL
from helpers.runs.decision import Decision, Effects
from helpers.runs.load import Run
from helpers.tasks import JSON_TASK, TASKS

_PARSERS = {"regex": "V4's regular expression", "handoff": "the handoff's fix", "tolerant": "ours"}


def gain_bars(run: Run) -> Figure:
    """The paired gain over the base policy of each task, sampled at temperature 1 and greedy, with 95 % intervals."""
    figure, axis = panel(0.7 + 0.5 * (1 + len(TASKS)))
    draw_gains(axis, run)
    axis.set(xlabel="Gain of the mean reward over the base policy, same prompts")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    return figure


def draw_gains(axis: Axes, run: Run) -> None:
    """What `gain_bars` shows, on given axes: filled marks sampled, hollow ones greedy, labelled for a legend."""
    rows = (ALL, *TASKS)
    for mode, label, offset in (("sample", "sampled at temperature 1", 0.15), ("greedy", "greedy", -0.15)):
        gains = analysis.gains(run, mode=mode)
        for position, task in enumerate(rows):
            if task in gains:
                _draw_interval(axis, gains[task].difference, offset - position, task_color(task), mode == "sample")
        axis.plot([], [], "o", color=MUTED, mfc=MUTED if mode == "sample" else "white", label=label)
    axis.axvline(0, color=MUTED, lw=1)
    name_rows(axis, [task_label(task) for task in rows])
    axis.set(ylim=(0.5 - len(rows), 0.5))


def parser_effects(effects: Effects) -> Figure:
    """Extraction reward of the same completions under three parsers, at the start and the end of a run."""
    color = task_color(JSON_TASK)
    figure, axis = panel(2.6)
    for position, (start, end) in enumerate(effects.means.values()):
        _draw_interval(axis, start, 0.12 - position, color, filled=False)
        _draw_interval(axis, end, -0.12 - position, color, filled=True)
    axis.plot([], [], "o", color=color, mfc="white", label="base policy's answers")
    axis.plot([], [], "o", color=color, label="answers at the end")
    name_rows(axis, [_PARSERS[name] for name in effects.means])
    axis.set(xlim=(0, 1.02), ylim=(0.5 - len(effects.means), 0.5), xlabel="Mean extraction reward (form, v4.1)")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2)
    return figure


def _draw_interval(axis: Axes, interval: Interval, y: float, color: str, filled: bool) -> None:
    axis.plot([interval.low, interval.high], [y, y], color=color, lw=2)
    axis.plot([interval.mean], [y], "o", color=color, mfc=color if filled else "white", ms=7)


def gain_rows(run: Run) -> list[dict[str, str]]:
    """One row per way of answering and task, as text: start, end, paired gain, and the share cut at the limit."""
    rows = []
    for mode, answers in analysis.ANSWERS.items():
        cut = analysis.cut_shares(run, mode)
        for task, gain in analysis.gains(run, mode=mode).items():
            rows.append(
                {
                    "Answers": answers,
                    "Task": task_label(task),
                    "Start": str(gain.before),
                    "End": str(gain.after),
                    "Paired gain": gain.difference.signed(),
                    "Cut at the limit": str(cut[task]),
                    "Prompts": str(gain.difference.n),
                }
            )
    return rows


def on_test(run: Run) -> str:
    """The mean reward at the end on the test split, which a run answers once and nothing is chosen by."""
    interval = analysis.task_interval(analysis.prompt_rewards(run, run.max_steps, "test"))
    return f"{interval} on {interval.n} prompts" if interval.n else "not evaluated"


def headline(run: Run, decision: Decision) -> dict[str, str]:
    """The few numbers of a run that its reader should see first, titled for `helpers.runs.summary`."""
    name = f"Scenario {decision.scenario}: " if decision.scenario in ("A", "B", "C") else ""
    numbers = {"03 run": run.where, "03 decision": f"{name}{decision.title}", "03 next": decision.command}
    sampled, greedy = (analysis.gains(run, mode=mode) for mode in ("sample", "greedy"))
    for task, gain in sampled.items():
        numbers[f"03 gain {task}, sampled"] = f"{gain.difference.signed()} to {gain.after}"
    numbers["03 test split, once"] = on_test(run)
    if ALL in greedy:
        numbers["03 gain all, greedy"] = f"{greedy[ALL].difference.signed()} to {greedy[ALL].after}"
    return numbers


def before_after_table(run: Run, task: str, n: int = 10) -> str:
    """HTML table: `n` completions of a task at the start and the end, from the largest loss to the largest gain."""
    rows = analysis.before_after(run, task, n)
    body = "".join(
        f"<tr><td>{html.escape(row.record_id)}</td><td>{_answer(row.before)}</td><td>{row.reward_before:.2f}</td>"
        f"<td>{_answer(row.after)}</td><td>{row.reward_after:.2f}</td></tr>"
        for row in rows.itertuples()
    )
    head = "<th>Record</th><th>At the start</th><th>Reward</th><th>At the end</th><th>Reward</th>"
    style = "table-layout:auto;width:100%;text-align:left;vertical-align:top;border-collapse:collapse"
    return (
        f'<table class="before-after" style="{style}"><caption style="text-align:left;font-weight:bold">'
        f"{task_label(task)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _answer(text: str) -> str:
    shown = text if len(text) <= 600 else text[:600] + " …"
    return f'<div style="white-space:pre-wrap;text-align:left;max-width:26em">{html.escape(shown)}</div>'
