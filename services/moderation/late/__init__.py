"""Verdicts about texts that were let through or held back already."""
