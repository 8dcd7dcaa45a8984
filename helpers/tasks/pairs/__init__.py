"""The pairs: a module for each task's drafts, the build that splits them, and the check that nothing leaks."""
