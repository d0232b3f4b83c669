"""Triggers as data: what starts one, what ends it, and the pure decision whether to send."""
