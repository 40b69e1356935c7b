"""Writing objects as YAML that every reader takes for the same values.

PyYAML leaves some text unquoted that kubectl's reader takes for a number or a boolean (`1e3`, `y`), so what
either of the two would not read back as the same text is quoted. Text of several lines is written as a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from emu.client.yaml_reader import resolve

_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TOP = ("apiVersion", "kind", "metadata", "type", "immutable", "spec")
_METADATA = ("name", "generateName", "namespace", "labels", "annotations")


class _Dumper(_Base):  # type: ignore[misc]
    """Block style, no aliases, quotes where a reader could be misled."""

    def ignore_aliases(self, data: Any) -> bool:
        """Repeat equal values: an alias saves nothing that a person reads."""
        return True


def _text(dumper: Any, text: str) -> Any:
    style: str | None
    if "\n" in text and text.strip() and not any(line.endswith(" ") for line in text.split("\n")):
        style = "|"
    else:
        style = None if _reads_as_itself(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _reads_as_itself(text: str) -> bool:
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _text)


def write_document(document: Mapping[str, Any]) -> str:
    """One object, its fields in the order that people expect."""
    ordered = _ordered(document, _TOP)
    if isinstance(ordered.get("metadata"), dict):
        ordered["metadata"] = _ordered(ordered["metadata"], _METADATA)
    return str(
        yaml.dump(
            ordered,
            Dumper=_Dumper,
            sort_keys=False,
            default_flow_style=False,
            allow_unicode=True,
            width=1 << 30,
        )
    )


def write_documents(documents: Iterable[Mapping[str, Any]]) -> str:
    """Several objects, with `---` between them."""
    return "---\n".join(write_document(document) for document in documents)


def _ordered(mapping: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    return {
        **{key: mapping[key] for key in first if key in mapping},
        **{key: value for key, value in mapping.items() if key not in first},
    }
