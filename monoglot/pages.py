"""Pages and texts from the templates beside this file; what a template shows is escaped."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monoglot.wording import (
    between,
    dollars,
    duration,
    markdown,
    number,
    percent,
    plain,
    rate,
    signed,
)

_FILTERS: Mapping[str, Callable[..., str]] = {
    "number": number,
    "signed": signed,
    "plain": plain,
    "percent": percent,
    "rate": rate,
    "duration": duration,
    "dollars": dollars,
    "markdown": lambda value: markdown(plain(value)),
    "between": lambda interval: between(interval.low, interval.high),
}


def render(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template with its values filled in.

    Args:
        template: its file name; one that ends in `html.j2` escapes what it shows.
        filters: further ones than those of `wording`.
        values: what it shows, by name.
    """
    from jinja2 import (  # of the pipeline only
        Environment,
        FileSystemLoader,
        StrictUndefined,
        select_autoescape,
    )

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.filters.update(filters)
    return environment.get_template(template).render(**values)
