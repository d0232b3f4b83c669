"""The use-cases, one file each: they take ports as arguments and know nothing of AWS."""
