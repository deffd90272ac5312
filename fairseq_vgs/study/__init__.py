"""Scenarios x seeds, trained with ``fairseq-hydra-train``, evaluated over training, compared on one page.

``settings -> plan -> runner (launch) -> results -> tables, figures, verdicts -> page``
"""
