"""A trained policy in use: which one serves which task, its answers, its export."""

from helpers.policy.serve.answer import (
    answer_by_route,
    answer_requests,
    read_requests,
    record_request,
    serve_commands,
    text_request,
)
from helpers.policy.serve.export import export_run
from helpers.policy.serve.route import Route, candidate, choose_route, handoff_pin, read_route, route_table, write_route
