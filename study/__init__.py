"""Which trials to run, and keeping what they say."""
