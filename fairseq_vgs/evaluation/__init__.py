"""Evaluation of trained models: strict checkpoint loading, embeddings, retrieval, results, plots and galleries."""
