"""`make demo`: the main job on the local cloud, with real input over the real interfaces, every result checked."""
