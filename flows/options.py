"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The monoglot.yaml to use.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Also where nothing changed, a release was chosen by hand, or it serves another "
        "knowledge base.",
    ),
]
HERE = Path("monoglot.yaml")
