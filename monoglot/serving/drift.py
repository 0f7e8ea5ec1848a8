"""When what was measured on a knowledge base's rows is measured again, since rows have changed.

Measuring reads every vector: 20 s and more at a million rows, most of a refresh after three edits,
which move no figure. Of few rows it takes no time, and an edit weighs more.
"""

_FEW = 10_000
_SHARE = 0.01


def has_drifted(changed: int, rows: int) -> bool:
    """Whether to measure again: after any change of few rows, else after that of one in a hundred.

    Args:
        changed: rows that differ from those that were measured.
        rows: that there are now.
    """
    return rows <= _FEW or changed > _SHARE * rows
