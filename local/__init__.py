"""The laptop: the local cloud, the stack in it, and the demo. Never shipped to AWS."""
