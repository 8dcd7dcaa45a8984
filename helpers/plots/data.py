"""Figures of the shop: what the simulated orders look like."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.plots.style import MUTED, SERIES_COLORS, panels
from helpers.tasks.shop.schema import FACTS

_LATENESS = (
    ("on time", "on_time", lambda delay: delay <= 0),
    ("1-3 days late", "late_1_3", lambda delay: (delay > 0) & (delay <= 3)),
    ("4-7 days late", "late_4_7", lambda delay: (delay > 3) & (delay <= 7)),
    ("8+ days late", "late_8_more", lambda delay: delay > 7),
    ("not delivered", "not_delivered", lambda delay: delay.isna()),
)
"""Label, name of the fact, and which delays (days) it is about."""


def plot_shop(orders: pd.DataFrame) -> Figure:
    """Three views of `orders_enriched`: delivery days, score by lateness, and the states' days and lateness.

    Grey marks are the facts that the simulator aims at.
    """
    figure, axes = panels(1, 3, height=3.2)
    left, middle, right = axes[0]
    _delivery_days(left, orders["delivery_days"].dropna())
    _scores(middle, orders)
    _states(right, orders)
    return figure


def _delivery_days(axes: Axes, days: pd.Series) -> None:
    axes.hist(days, bins=list(range(61)), color=SERIES_COLORS[0])
    for name in ("p25", "p50", "p75", "p90"):
        axes.axvline(FACTS["delivery"]["days"][name], color=MUTED, linestyle="--", linewidth=1)
    axes.set(title="Days to delivery", xlabel="days (dashed: facts, p25 to p90)", ylabel="orders", xlim=(0, 60))


def _scores(axes: Axes, orders: pd.DataFrame) -> None:
    facts = FACTS["reviews"]["score_mean"]
    for row, (_, fact, holds) in enumerate(_LATENESS):
        mean = orders.loc[holds(orders["delay_days"]), "review_score"].mean()
        axes.barh(row, mean, color=SERIES_COLORS[0], height=0.6)
        axes.plot(facts[fact], row, "|", color="black", markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(_LATENESS)), [label for label, *_ in _LATENESS])
    axes.invert_yaxis()
    axes.set(title="Mean review score", xlabel="score (bar end: shop, mark: fact)", xlim=(1, 5))


def _states(axes: Axes, orders: pd.DataFrame) -> None:
    delivered = orders[orders["order_status"] == "delivered"]
    by_state = delivered.groupby("customer_state").agg(
        days=("delivery_days", "mean"), late=("is_late", "mean"), orders=("order_id", "size")
    )
    axes.scatter(
        by_state["days"], by_state["late"] * 100, s=by_state["orders"] / 12 + 8, color=SERIES_COLORS[0], alpha=0.6
    )
    for state in FACTS["delivery"]["known_states"]:
        days, late = (FACTS["states"][state][name] for name in ("days", "late"))
        axes.plot(days, late, "x", color="black")
        axes.annotate(state, (days, late), textcoords="offset points", xytext=(5, 5), fontsize=8)
    axes.set(title="States: days and lateness", xlabel="mean days to delivery", ylabel="late, % (cross: fact)")
