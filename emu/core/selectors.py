"""Label selectors and field selectors, as objects and as the text of a query.

Source of the rules: apimachinery's `labels.Requirement.Matches` and the Kubernetes documentation of labels.
`NotIn` and `!=` also match when the key is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec


class SelectorError(ValueError):
    """A selector's text cannot be parsed. The message is what the API answers."""


class Requirement(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One of `matchExpressions`: operator is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil this requirement. An unknown operator fulfils nothing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


class LabelSelector(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A `metav1.LabelSelector`. All of its parts must match; an empty one matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of `matchLabels` and `matchExpressions` are fulfilled."""
        for key, value in self.match_labels.items():
            if labels.get(key) != value:
                return False
        return all(requirement.matches(labels) for requirement in self.match_expressions)


_SET_BASED = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTENCE = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=,()]+)$")


def parse_label_selector(text: str) -> LabelSelector:
    """The selector of a `labelSelector` query: `a=b,c!=d,e in (x,y),f notin (z),g,!h`.

    Raises SelectorError when the text is not one.
    """
    return LabelSelector(match_expressions=tuple(_requirement(term) for term in _terms(text)))


def _terms(text: str) -> list[str]:
    terms = re.split(r",(?![^()]*\))", text) if text.strip() else []
    return [term.strip() for term in terms]


def _requirement(term: str) -> Requirement:
    if found := _SET_BASED.match(term):
        operator = "In" if found["op"] == "in" else "NotIn"
        return Requirement(
            found["key"], operator, tuple(value.strip() for value in found["values"].split(","))
        )
    if found := _EQUALITY.match(term):
        return Requirement(found["key"], "NotIn" if found["op"] == "!=" else "In", (found["value"],))
    if found := _EXISTENCE.match(term):
        return Requirement(found["key"], "DoesNotExist" if found["not"] else "Exists")
    raise SelectorError(f"unable to parse requirement: {term!r} is not a label selector")


class FieldRequirement(msgspec.Struct, frozen=True):
    """One term of a field selector: a dotted path that has, or has not, a value."""

    path: str
    value: str
    equal: bool = True


def parse_field_selector(text: str) -> tuple[FieldRequirement, ...]:
    """The terms of a `fieldSelector` query: `metadata.name=web,status.phase!=Running`.

    Raises SelectorError when the text is not one.
    """
    requirements = []
    for term in _terms(text):
        found = re.match(r"^(?P<path>[^\s!=,]+?)\s*(?P<op>==|!=|=)\s*(?P<value>.*)$", term)
        if not found:
            raise SelectorError(f"invalid field selector: {term!r}; can't understand it as path=value")
        requirements.append(FieldRequirement(found["path"], found["value"], found["op"] != "!="))
    return tuple(requirements)
