"""fairseq 0.12.2 on current Python."""
