"""The pages that readers of our mails see: how they are written, and what a form says."""
