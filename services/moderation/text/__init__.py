"""Text as it is read, whatever it was written with."""
