"""How the model learns, and whether it did."""
