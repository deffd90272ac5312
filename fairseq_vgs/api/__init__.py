"""The public face: a trained model in Python, from a recording and a picture to their score."""
