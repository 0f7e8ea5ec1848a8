"""What the LLM adds: translations and native queries, paid for once, checked before use."""
