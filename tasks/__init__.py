"""Tasks: each binds one stage of the library to Prefect; see `caching.py` for how."""
