"""The whole stack on the local cloud; a package, so that its fixtures end with it."""
