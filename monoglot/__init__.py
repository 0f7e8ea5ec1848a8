"""Monoglot: answer queries in any language from a knowledge base kept in one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monoglot.feedback.query_log import QueryLog
    from monoglot.serving.retriever import Answer, Retriever

__all__ = ["Answer", "QueryLog", "Retriever"]


def __getattr__(name: str) -> Any:
    """Load the retriever when it is first asked for: what runs without it starts fast."""
    if name == "QueryLog":
        from monoglot.feedback.query_log import QueryLog

        return QueryLog
    if name in __all__:
        from monoglot.serving import retriever

        return getattr(retriever, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
