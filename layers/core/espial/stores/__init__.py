"""The only callers of AWS: each module implements one port of `espial.ports`."""
