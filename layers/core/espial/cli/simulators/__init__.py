"""Simulators of platforms, for the local cloud, tests and demos: each checks what it is told as the platform does."""
