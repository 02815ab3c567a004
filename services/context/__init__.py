"""Context: what the model sees."""
