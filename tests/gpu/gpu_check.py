#!/usr/bin/env python3
"""One command that checks and measures the GPU path on any NVIDIA GPU: `make gpu-check`, or this file.

    python tests/gpu/gpu_check.py --sections preflight trl unsloth --wheels .whl
    python tests/gpu/gpu_check.py --large --sections trl
    python tests/gpu/gpu_check.py --tiny          # the script itself, on the CPU, in under a minute

It needs no hub and installs nothing from the network. Each section runs in a process of its own; results are written
after each, to gpu-check.json and gpu-check.md, beside those of earlier calls.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import gpu_report as report  # noqa: E402

from helpers.core import gpus  # noqa: E402
from helpers.core.errors import UserError  # noqa: E402
from helpers.core.files import write_json, write_text  # noqa: E402

SECTIONS = Path(__file__).with_name("gpu_sections.py")
BUDGET = 540.0
"""Seconds for one call: nine minutes."""
LEAST = 20.0
"""Seconds under which no section is begun."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections asked for: 0 if at least one ran and no check is off, 1 if not, 2 for bad input."""
    try:
        return check(parse(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="check and measure the GPU path", allow_abbrev=False)
    parser.add_argument("--sections", nargs="+", choices=report.SECTIONS, default=list(report.SECTIONS))
    parser.add_argument("--large", action="store_true", help="the 3.7B shape, 8 completions of 1,024 tokens")
    parser.add_argument("--tiny", action="store_true", help="try the script out: the smallest shapes, on the CPU")
    parser.add_argument("--steps", type=int, default=20, help="training steps per backend (default 20)")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for this call (default 540)")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to use beside what is installed")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "runs" / "gpu", help="where results go")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "gpu-check", help="where policies are kept")
    return parser.parse_args(arguments)


def check(args: argparse.Namespace) -> int:
    """Run the sections one after the other within the budget; the exit code."""
    installed, why_none = gpus.find()
    if not args.tiny and not installed:
        raise UserError(f"no NVIDIA GPU: {why_none}; --tiny tries the script out on the CPU")
    started = time.monotonic()
    shape = "tiny" if args.tiny else "3.7B" if args.large else "0.5B"
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-site-") as site:
        environment = environment_of(install(args.wheels, Path(site)))
        if args.sections != ["learn"]:
            make_policy(shape, args, environment)
        for place, section in enumerate(args.sections):
            left = args.budget - (time.monotonic() - started)
            share = left / (len(args.sections) - place)
            print(f"==> {shape}, {section}", flush=True)
            results[section] = run_section(section, shape, args, environment, left, share)
            print(f"==> {shape}, {section}: {in_words(results[section])}", flush=True)
            save(args.out, shape, results[section], section)
    print(f"{args.out / 'gpu-check.md'}")
    ran = any(result["state"] == "ran" for result in results.values())
    off = any(each["state"] == "off" for result in results.values() for each in result.get("checks", []))
    return int(off or not ran)


def make_policy(shape: str, args: argparse.Namespace, environment: dict[str, str]) -> None:
    """Make the random policy that the sections train, unless an earlier call did; `UserError` where that fails."""
    print(f"==> {shape}, random policy", flush=True)
    made = run_section(report.POLICY, shape, args, environment, args.budget, args.budget)
    if made["state"] != "ran":
        raise UserError(f"no random policy of shape {shape}: {made['reason']}; {args.out} holds the log")


def install(wheels: Path | None, site: Path) -> list[str]:
    """Install a folder of wheels into `site`, from that folder alone; what must lead the module path."""
    if wheels is None:
        return []
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise UserError(f"{wheels}: holds no wheel; collect them there or leave --wheels out")
    quiet = ["-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--upgrade", "--target", str(site), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{wheels}: pip cannot install these wheels: {last_line(done.stderr)}")
    return [str(site)]


def environment_of(first: list[str]) -> dict[str, str]:
    """The environment of every section: our modules, no network, no W&B."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([*first, str(ROOT), *([inherited] if inherited else [])]),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def run_section(
    section: str, shape: str, args: argparse.Namespace, environment: dict[str, str], left: float, share: float
) -> dict[str, Any]:
    """One section's result. It is stopped when the call's time is up; a backend stops by itself after its `share`."""
    if left < LEAST:
        return {"state": "not run", "reason": "no time was left in this call"}
    log, result = args.out / f"{shape}-{section}.log", args.work / f"{shape}-{section}.json"
    for path in (log, result):
        path.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    command = [sys.executable, str(SECTIONS), section, "--shape", shape, "--steps", str(args.steps)]
    command += ["--seconds", str(share), "--work", str(args.work), "--out", str(args.out), "--result", str(result)]
    started = time.monotonic()
    code = run_until(command, environment, log, left)
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8")) | {"section_s": round(time.monotonic() - started, 1)}
    reason = f"stopped after {left:.0f} s, the end of this call's time" if code is None else last_line(log.read_text())
    return {"state": "not run", "reason": reason}


def run_until(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> int | None:
    """The command's exit code, with its output in `log`; None where it and its children were killed after `seconds`."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def save(out: Path, shape: str, result: dict[str, Any], section: str) -> None:
    """Put one result beside those of earlier sections and calls, as JSON and as Markdown."""
    path = out / "gpu-check.json"
    shapes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    shapes.setdefault(shape, {})[section] = result
    write_json(path, shapes)
    write_text(out / "gpu-check.md", report.markdown(shapes))


def in_words(result: dict[str, Any]) -> str:
    """A result in a few words."""
    if result["state"] == "not run":
        return f"not run, {result['reason']}"
    off = [each["name"] for each in result.get("checks", []) if each["state"] == "off"]
    parts = [f"{result['steps']} steps"] if "steps" in result else []
    parts += [f"{result['step_s']:.2f} s per step, {result['peak_gib']:.2f} GiB"] if "step_s" in result else []
    parts += [f"off: {', '.join(off)}"] if off else []
    return "; ".join([*parts, f"{result['section_s']:.0f} s in all"])


def last_line(text: str) -> str:
    """The last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


if __name__ == "__main__":
    raise SystemExit(main())
