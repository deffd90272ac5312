"""The ``fairseq-vgs`` command: one file per subcommand."""
