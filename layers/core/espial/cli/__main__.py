"""`python -m espial.cli`."""

from espial.cli.app import app

app(prog_name="espial")
