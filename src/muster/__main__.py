"""`python -m muster` is the `muster` command, for whoever has an interpreter and no script on the path."""

from muster.cli.main import main

if __name__ == "__main__":
    main(prog_name="muster")
