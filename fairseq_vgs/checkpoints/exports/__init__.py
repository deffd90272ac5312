"""Models for others: folders that load without fairseq and without this package."""
