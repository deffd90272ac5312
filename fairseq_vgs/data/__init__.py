"""Load pairs of speech and pictures, and batch them for fairseq."""

import contextlib

# Import fairseq first: it registers tasks, which import this package, which must then be fully imported.
with contextlib.suppress(ImportError):
    import fairseq  # noqa: F401
