"""Completions written to try the rewards: right ones in other dress, wrong ones, lazy ones and cheats."""
