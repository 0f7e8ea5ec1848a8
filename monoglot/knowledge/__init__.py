"""What the user gave: knowledge base, queries, translations; their checks, split and changes."""
