"""Campaigns: who is awarded and told what for which behaviour, compiled into triggers, providers and their messages."""
