"""Quantities of resources, such as `500m` or `1Gi`: their value, and the one form in which they are stored.

Source: apimachinery `api/resource/quantity.go`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from emu.api.errors import BadRequestError

# A cluster's pods ask for the same few amounts, and rational numbers are slow.
_CACHED = 4096
_FORM_RE = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT_RE = re.compile(r"[eE]([-+]?[0-9]+)")
_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL.items()}


@lru_cache(_CACHED)
def value_of(quantity: Any) -> Fraction:
    """The value of a quantity that was accepted."""
    return _parse(quantity)[0]


@lru_cache(_CACHED)
def canonical(quantity: Any) -> str:
    """The form in which a quantity is stored and shown. Raises BadRequestError when it is none."""
    value, suffix = _parse(quantity)
    if suffix in _BINARY and abs(value) >= 1024:
        whole = -(-value.numerator // value.denominator)
        power = 0
        while power < 6 and whole % 1024 == 0:
            whole, power = whole // 1024, power + 1
        return f"{whole}{next((name for name, at in _BINARY.items() if at == power), '')}"
    if value == 0:
        return "0"
    nano = value * 10**9
    whole, exponent = -(-nano.numerator // nano.denominator), -9
    while exponent < 18 and whole % 1000 == 0:
        whole, exponent = whole // 1000, exponent + 3
    if _EXPONENT_RE.fullmatch(suffix):
        return f"{whole}e{exponent}" if exponent else str(whole)
    return f"{whole}{_BY_EXPONENT[exponent]}"


def _parse(quantity: Any) -> tuple[Fraction, str]:
    text = str(quantity)
    form = _FORM_RE.fullmatch(text)
    if form is None:
        raise BadRequestError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    number, suffix = form.groups()
    exponent = _EXPONENT_RE.fullmatch(suffix)
    if suffix in _BINARY:
        factor = Fraction(1024) ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        factor = Fraction(10) ** _DECIMAL[suffix]
    elif exponent is not None and abs(int(exponent[1])) <= 30:
        factor = Fraction(10) ** int(exponent[1])
    else:
        raise BadRequestError("unable to parse quantity's suffix")
    if number.count(".") > 1 or not any(char.isdigit() for char in number):
        raise BadRequestError("unable to parse numeric part of quantity")
    return Fraction(f"{number}0" if number.endswith(".") else number) * factor, suffix


def parse(quantity: Any) -> Fraction | None:
    """The value of a quantity, None if it is not one."""
    try:
        return value_of(quantity)
    except BadRequestError:
        return None


def is_positive(quantity: Any) -> bool:
    """Whether a quantity is well-formed and more than nothing."""
    value = parse(quantity)
    return value is not None and value > 0
