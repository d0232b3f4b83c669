"""CDP feeds: campaign and response events as files (requirements A1 to A29)."""
