"""The engines: one file each, and the pure pieces that they share."""
