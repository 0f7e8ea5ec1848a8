"""Monoglot: answer queries in any language from a knowledge base kept in one."""
