"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input, told in one line: what is wrong, where, what to do. The command line prints it and exits with 2."""


def require_known(kind: str, name: str, valid: tuple[str, ...]) -> None:
    """Raise `UserError` listing the valid names unless `name` is one of `valid`.

    >>> require_known("task", "push", ("push", "insights"))
    >>> require_known("task", "pull", ("push", "insights"))
    Traceback (most recent call last):
        ...
    helpers.core.errors.UserError: unknown task 'pull'; the valid ones are: push, insights
    """
    if name not in valid:
        raise UserError(f"unknown {kind} {name!r}; the valid ones are: {', '.join(valid)}")


class RunError(RuntimeError):
    """A run that cannot go on, told in one line: what failed, and at which step. The command line exits with 1."""
