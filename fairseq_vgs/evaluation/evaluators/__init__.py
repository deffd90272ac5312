"""The evaluations of ``fairseq-vgs evaluate``, one file each; every file here is imported by the registry."""
