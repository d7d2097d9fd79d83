"""Nouns: frozen data, closed enums, identifiers. Nothing here does anything."""
