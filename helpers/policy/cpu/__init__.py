"""Fast decoding on a CPU: attention over grouped heads, prompts read once, rollouts."""
