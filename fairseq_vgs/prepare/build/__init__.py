"""Build a data folder from a corpus."""
