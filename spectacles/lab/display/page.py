"""Pages in HTML, by templates that escape whatever they are given. They are made from templates/base.html."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

from spectacles.common.errors import SpectaclesError
from spectacles.lab.display.french import unbroken

TEMPLATES = Path(__file__).with_name("templates")


def require_jinja() -> None:
    """Raise SpectaclesError when jinja2 is not installed: before the work, not after it."""
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError:
        raise SpectaclesError("jinja2 manque : pip install jinja2") from None


class Script(NamedTuple):
    """The script of a page. text: as it stands in it; hash: by which the content policy of the page allows it."""

    text: str
    hash: str


def render(template: Path, script: Path | None = None, **values: object) -> str:
    """Return the page that `template` makes of `values`. Raises SpectaclesError when jinja2 is not installed.

    script: the one that the page may run; no other will run, whatever is in `values`. It must hold no "</script".
    Values that are data for it are written with Jinja's filter `tojson`, which leaves nothing that ends an element.

    The template finds its neighbours and those of TEMPLATES by their names. It has two filters: `said` keeps French
    lines from ending where they may not, `px` writes a length.
    """
    require_jinja()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"said": unbroken, "px": "{:.1f}".format}
    allowed = None
    if script is not None:
        text = script.read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed = Script(Markup(text), f"sha256-{digest}")
    return environment.get_template(template.name).render(values, script=allowed)
