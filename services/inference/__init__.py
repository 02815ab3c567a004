"""Inference: engines behind one contract. One replica is one process with its engines."""
