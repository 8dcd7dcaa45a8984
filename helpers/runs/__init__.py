"""What a run's record says: reading it, comparing runs, judging one, deciding what comes next."""

from helpers.runs.decision import Decision, answer_questions, decide
from helpers.runs.load import Run, evaluated_steps, find_runs, latest_run, load_run, run_folder
