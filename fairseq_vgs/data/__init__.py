"""Loading of pairs of speech and pictures, and their batches for fairseq."""
