"""The `espial` command: for people; never imported by a function."""
