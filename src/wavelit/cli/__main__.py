"""`python -m wavelit.cli`."""

from wavelit.cli.program import main

if __name__ == "__main__":
    raise SystemExit(main())
