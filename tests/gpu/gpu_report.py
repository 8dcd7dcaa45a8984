"""The results of the GPU check as Markdown, and the names of its sections; imports no GPU package."""

from typing import Any

from helpers.runs.record import PHASES

BACKENDS = {
    "unsloth-vllm": "Unsloth + vLLM",
    "unsloth": "Unsloth, its own decoder",
    "trl-vllm": "TRL + vLLM",
    "trl": "TRL + transformers' generate",
}
CURVE = "learning.png"
SECTIONS = ("preflight", *BACKENDS, "learn")
POLICY = "policy"
"""What comes before the sections: the random policy is made."""
PAIRS = (("unsloth-vllm", "trl-vllm"), ("unsloth", "trl"))
"""What is compared: Unsloth's step with TRL's, each time with the same engine or with none."""

OUTSIDE_TRAINING = ("generation", "sync", "rewards", "eval")
"""The phases of a step that are not the policy's forward and backward passes and its update."""

Results = dict[str, dict[str, Any]]


def markdown(shapes: dict[str, Results]) -> str:
    """The report: for each shape a table of backends, the ratios, the checks, the learning run, what did not run."""
    parts = ["# GPU check", "", "Written by `make gpu-check`; every number was measured by it.", ""]
    for shape, results in shapes.items():
        parts += [f"## {shape}", "", *_machine(results), *_speed(results), *_ratios(results), *_learning(results)]
        parts += [*_checks(results), *_not_run(results)]
    return "\n".join(parts).rstrip() + "\n"


def ratios(results: Results) -> list[dict[str, Any]]:
    """Unsloth's step as a share of TRL's with the same generation: seconds, seconds of training alone, peak memory."""
    return [
        {
            "unsloth": ours,
            "trl": theirs,
            "step": results[ours]["step_s"] / results[theirs]["step_s"],
            "training": training_seconds(results[ours]) / training_seconds(results[theirs]),
            "peak": results[ours]["peak_gib"] / results[theirs]["peak_gib"],
        }
        for ours, theirs in PAIRS
        if _ran(results, ours) and _ran(results, theirs)
    ]


def training_seconds(result: dict[str, Any]) -> float:
    """Seconds of a step that the policy itself takes to learn, whatever generated the completions."""
    return sum(seconds for phase, seconds in result["phases"].items() if phase not in OUTSIDE_TRAINING)


def usd_per_1000_steps(step_s: float, usd_per_hour: float) -> float | None:
    """What 1,000 steps cost; None where no price is known.

    >>> usd_per_1000_steps(step_s=18.0, usd_per_hour=0.80)
    4.0
    """
    return 1000 * step_s / 3600 * usd_per_hour if usd_per_hour else None


def _ran(results: Results, section: str) -> bool:
    return results.get(section, {}).get("state") == "ran"


def _machine(results: Results) -> list[str]:
    """GPU, versions and settings, once: they are those of the section that ran last."""
    done = [result for result in results.values() if result["state"] == "ran"]
    if not done:
        return ["Nothing ran.", ""]
    last = done[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    capped = f"- GPU: {last['device']}, capped at {last['cap_gib']:g} GiB"
    lines = [capped if last["cap_gib"] else "- The script trying itself out on the CPU: nothing here is a result."]
    lines += [f"- Versions: Python {last['python']}, {versions}"]
    policy = last.get("policy")
    if policy:
        rest = policy["vocabulary"] - policy["learned_tokens"]
        lines += [
            f"- Policy: {policy['parameters']:,} random weights; {policy['vocabulary']:,} tokens, of which our pairs "
            f"taught {policy['learned_tokens']:,} and {rest:,} are reserved"
        ]
    return [*lines, ""]


def _speed(results: Results) -> list[str]:
    done = {name: results[name] for name in BACKENDS if _ran(results, name)}
    if not done:
        return []
    shown = [phase for phase in PHASES if phase != "eval"]
    head = [
        "backend",
        "steps",
        "s/step",
        *shown,
        "tokens/s",
        "GPU GiB",
        "torch GiB",
        "padding waste",
        "USD / 1,000 steps",
    ]
    rows = [_row(head), _row(["---"] * len(head))]
    for name, result in done.items():
        cost = result["usd_per_1000_steps"]
        cells = [BACKENDS[name], str(result["steps"]), f"{result['step_s']:.2f}"]
        cells += [f"{result['phases'].get(phase, 0.0):.2f}" for phase in shown]
        cells += [f"{result['tokens_per_s']:,.0f}", f"{result['peak_gib']:.2f}", f"{result['torch_gib']:.2f}"]
        cells += [f"{result['padding_waste']:.1%}"]
        rows.append(_row([*cells, "unknown" if cost is None else f"{cost:.2f}"]))
    first = next(iter(done.values()))
    caption = (
        f"A step is {first['prompts_per_step']} prompts x {first['num_generations']} completions of at most "
        f"{first['limit']} tokens. Seconds are medians over the steps after the first, which warms up. "
        "GPU GiB: the most that the whole GPU had in use; torch GiB: the most that torch's tensors took."
    )
    sampled = [_sampling(name, result["sampling"]) for name, result in done.items() if result.get("sampling")]
    changed = [
        f"- {BACKENDS[name]}, to fit: {', '.join(done[name]['changes'])}" for name in done if done[name]["changes"]
    ]
    return [*rows, "", caption, "", *sampled, *changed, *([""] if sampled or changed else [])]


def _sampling(name: str, ranges: dict[str, list[float]]) -> str:
    """How far the engine's log-probabilities were from the trainer's, and the ratios that correct for it."""
    keys = ("logp_difference", "importance_ratio_min", "importance_ratio_max")
    gap, low, high = (ranges[f"train/{key}"] for key in keys)
    return (
        f"- {BACKENDS[name]}, engine against trainer: log-probabilities differ by at most {gap[1]:.2g} per token in a "
        f"step's mean; importance ratios from {low[0]:.4f} to {high[1]:.4f}"
    )


def _ratios(results: Results) -> list[str]:
    lines = [
        f"- {BACKENDS[ratio['unsloth']]} against {BACKENDS[ratio['trl']]}: {ratio['step']:.2f} x the step's seconds, "
        f"{ratio['training']:.2f} x without {', '.join(OUTSIDE_TRAINING[:3])}; {ratio['peak']:.2f} x the peak memory"
        for ratio in ratios(results)
    ]
    return [*lines, ""] if lines else []


def _learning(results: Results) -> list[str]:
    if not _ran(results, "learn"):
        return []
    learn = results["learn"]
    gains = ", ".join(f"{task} {gain}" for task, gain in learn["gains"].items())
    caption = (
        f"The embedded policy ({learn['parameters']:,} parameters) learned for {learn['steps']} steps in "
        f"{learn['seconds']:.0f} s, evaluations included. "
        f"Paired gain over its base policy at temperature 1, 95 % interval: {gains}."
    )
    return [caption, "", f"![Mean reward by step]({CURVE})", ""]


def _checks(results: Results) -> list[str]:
    """The preflight's checks whole; of the others only those that their own run adds."""
    rows = [
        _row([name, check["name"], check["state"], check["value"]])
        for name, result in results.items()
        for check in result.get("checks", [])
    ]
    return [_row(["section", "check", "verdict", "told"]), _row(["---"] * 4), *rows, ""] if rows else []


def _not_run(results: Results) -> list[str]:
    lines = [
        f"- {name}: not run, {result['reason']}" for name, result in results.items() if result["state"] == "not run"
    ]
    return [*lines, ""] if lines else []


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
