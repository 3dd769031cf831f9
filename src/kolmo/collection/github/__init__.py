"""Source files of public repositories: search, fetch, exact duplicates, heuristics, near duplicates."""
