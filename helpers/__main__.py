"""The command line: `python -m helpers <verb>`."""

from helpers.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
