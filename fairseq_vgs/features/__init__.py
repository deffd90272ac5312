"""From a model to frames, layers and embeddings; MFCC; the feature store."""
