"""Figures: one module a room, each function returns a matplotlib `Figure` in the style of `helpers.plots.style`."""
