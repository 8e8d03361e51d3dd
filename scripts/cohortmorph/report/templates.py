"""The templates of pages: beside this module, and strict."""

from pathlib import Path

import jinja2


def template(name: str) -> jinja2.Template:
    """Return a template beside this module; it escapes every text and refuses what it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)
