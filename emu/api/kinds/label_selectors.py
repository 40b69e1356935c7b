"""Label selectors inside objects: what is wrong with one, and whether it matches.

Source: apimachinery `apis/meta/v1/validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from emu.api.errors import FieldError, forbidden, invalid, required
from emu.api.naming import check, check_labels, label_value_faults, qualified_name_faults
from emu.core.selectors import LabelSelector


def check_label_selector(selector: Mapping[str, Any], path: str) -> list[FieldError]:
    """Errors of a `metav1.LabelSelector`."""
    errors = check_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for number, requirement in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{number}]"
        operator, values = requirement.get("operator", ""), requirement.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(
                    required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
                )
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(
                    forbidden(
                        f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
                )
        else:
            errors.append(invalid(f"{here}.operator", operator, "not a valid selector operator"))
        errors += check(requirement.get("key", ""), f"{here}.key", qualified_name_faults)
        for index, value in enumerate(values):
            errors += check(value, f"{here}.values[{index}]", label_value_faults)
    return errors


def is_empty(selector: Mapping[str, Any]) -> bool:
    """Whether a selector has no terms."""
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a valid selector matches labels."""
    return msgspec.convert(selector, LabelSelector).matches(labels)
