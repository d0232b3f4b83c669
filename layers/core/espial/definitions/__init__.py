"""What users configure, as reviewed YAML: read, validated and published by `espial apply`."""
