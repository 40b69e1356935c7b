"""The page about the API says what the resource table says."""

from pathlib import Path

from emu.api.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run `make docs`"
