"""What a run's record says: reading it, comparing runs, judging one, deciding what comes next."""
