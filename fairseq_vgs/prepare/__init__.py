"""Builds data folders from corpora: one ``prepare_<corpus>()`` per file, with neither torch nor fairseq."""
