"""Measurements on public data given by path; nothing of the project imports them."""
