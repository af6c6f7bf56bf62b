"""Pages that open from disk and ask nothing of any network.

Jinja escapes everything that comes from the data; only the SVGs, the style and the script are let through, and a page's
own policy forbids any other script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

import mmbench


def render_page(name: str, **context: Any) -> str:
    """A template of the folder ``page`` with its values, the common style and, where it asks for it, the script."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda text: Markup(re.sub("([_×])", r"\1<wbr>", str(escape(text))))
    script = _read("report.js")
    return environment.get_template(name).render(
        version=mmbench.__version__,
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(_read("report.css")),
        **context,
    )


def _read(name: str) -> str:
    return (files("mmbench.reporting") / "page" / name).read_text(encoding="utf-8")
