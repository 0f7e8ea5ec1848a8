"""How fast Monoglot is, beside what a user would pick instead, and how it grows with the rows.

    python -m benchmarks.speed [--quick] [--only NAME ...] [--data DATA_DIR]

Each measurement runs in a process of its own, alone, and gives `Figure`s; see the modules.
"""
