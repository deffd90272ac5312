"""Evaluation of trained models: checkpoint loading, embeddings, retrieval, results, plots and galleries."""
