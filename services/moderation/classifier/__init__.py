"""The classifier: a linear model for what is plainly harmless, and an encoder for all the rest."""

from services.moderation.classifier.classifier import Classifier, Scores

__all__ = ["Classifier", "Scores"]
