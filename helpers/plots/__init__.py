"""How it is drawn: figures of a recipe, a run, the two audits and the shop, and a run as an HTML page.

Unless its docstring says otherwise, a function returns a matplotlib `Figure` in the style of `helpers.plots.style`.
"""

from helpers.plots.audits import family_map, kind_heat_map, outcome_bars, probe_heat_map
from helpers.plots.curves import eval_curves, reward_curve, reward_distributions, reward_parts, training_parts
from helpers.plots.data import plot_shop
from helpers.plots.gains import before_after_table, gain_bars, gain_rows, headline, on_test, parser_effects
from helpers.plots.health import (
    coverage_bars,
    repairs_over_time,
    stop_panel,
    stop_table_history,
    training_health,
)
from helpers.plots.live import LivePlot
from helpers.plots.recipes import plan_bars, planned_coverage, schedules
from helpers.plots.report import write_report
from helpers.plots.steps import phase_bars
