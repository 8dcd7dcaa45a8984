"""How long scoring takes: a batch of 32 mixed completions under each version, and the sandbox stopping attacks.

Run with `make bench` or `python -m benchmarks.rewards`. Budgets: 10 ms a batch under v4.1, 50 ms under v4.2, at the
median on one core; 2 s and 256 MiB an attack.
"""

import json
import resource
import statistics
import time
from typing import Any

from helpers.rewards import VERSIONS, reward_functions
from helpers.rewards.sql_sandbox import database_path, run_query
from helpers.tasks import TASKS
from helpers.tasks.records import load_split

BATCH = 32
BATCHES = 40
LONG = "replace(replace(replace('aaaaaaaaaa','a','aaaaaaaaaa'),'a','aaaaaaaaaa'),'a','aaaaaaaaaa')"
ATTACKS = {
    "endless recursion": "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r",
    "cross join": "SELECT COUNT(*) FROM orders a, orders b, orders c",
    "sorted cross join": "SELECT * FROM orders a, orders b ORDER BY a.order_id || b.order_id",
    "distinct cross join": "SELECT COUNT(DISTINCT a.order_id || b.order_id) FROM orders a, orders b",
    "printf of 100 MB": "SELECT printf('%.*c', 100000000, 'x')",
    "zeroblob of 100 MB": "SELECT zeroblob(100000000)",
    "replace to 100 MB": f"SELECT replace({LONG}, 'a', {LONG})",
    "slow calls": f"SELECT COUNT(instr({LONG} || a.order_id, {LONG} || b.order_id)) FROM orders a, orders b",
    "10,000 ORs": "SELECT 1 FROM orders WHERE " + " OR ".join(["order_id = 'x'"] * 10_000),
}


def batches() -> list[dict[str, Any]]:
    """Batches of 32 completions, eight records of each task, a reference or another record's, none twice."""
    records = load_split("train")
    of_task = {task: [record for record in records if record["task"] == task] for task in TASKS}
    made = []
    for number in range(BATCHES):
        rows = [
            of_task[task][(number * 8 + place) % len(of_task[task])]
            for task in TASKS
            for place in range(BATCH // len(TASKS))
        ]
        texts = [[{"role": "assistant", "content": record["reference"]["text"]}] for record in rows]
        lines = [json.dumps(record) for record in rows]
        made.append({"completions": texts, "task": [record["task"] for record in rows], "record": lines})
    return made


def milliseconds(version: str, batch: dict[str, Any]) -> float:
    """Processor time that the four functions of a version take for a batch: the same on a busy machine."""
    started = time.process_time()
    for function in reward_functions(version):
        function(prompts=None, **batch)
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Print the table."""
    for version in VERSIONS:
        times = sorted(milliseconds(version, batch) for batch in batches())
        most = times[int(0.9 * len(times))]
        print(
            f"{version:<5} {BATCH} completions: median {statistics.median(times):6.2f} ms, 90th centile {most:6.2f} ms"
        )
    for name, sql in ATTACKS.items():
        result = run_query(database_path(), sql)
        print(f"{name:<20} {result.elapsed:6.3f} s  {result.error}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, the process as a whole")


if __name__ == "__main__":
    main()
