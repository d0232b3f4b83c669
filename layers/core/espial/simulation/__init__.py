"""Time travel: the use-cases that run triggers in production, over a clock, stores and a provider in memory."""
