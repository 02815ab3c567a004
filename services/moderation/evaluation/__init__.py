"""How well Moderation judges: labelled texts in, figures with their uncertainty out."""
