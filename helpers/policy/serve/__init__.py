"""A trained policy in use: which one serves which task, its answers, its export."""
