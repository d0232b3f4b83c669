"""Notifications: other systems learn of events the way they can: pull, HTTP, email, FTP (requirements B1 to B31)."""
