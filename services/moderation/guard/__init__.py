"""A guard model that our own Inference serves: for what the classifier is unsure of, and in the background."""
