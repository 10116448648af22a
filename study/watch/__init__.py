"""Ways to watch studies, each a view of their records."""
