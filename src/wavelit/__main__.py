"""`python -m wavelit`: the command line, where its script is not on the path."""

from wavelit.cli.program import main

if __name__ == "__main__":
    raise SystemExit(main())
