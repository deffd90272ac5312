"""Loading of pairs of speech and pictures, and their batches for fairseq."""

import contextlib

# first: once imported it registers tasks, which need this room, and it must not be half imported by then
with contextlib.suppress(ImportError):
    import fairseq  # noqa: F401
