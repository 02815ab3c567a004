"""Jailbreaks and injections by their wording, seen through disguises and encodings."""
