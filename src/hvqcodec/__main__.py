"""`python -m hvqcodec`: the command `hvq`."""

from hvqcodec.cli import main

if __name__ == "__main__":
    main(prog_name="hvq")
