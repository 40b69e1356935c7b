"""One line for each event, as text and as JSON."""

import json
import logging

import pytest

from emu.telemetry.logs import setup_logging


@pytest.fixture(autouse=True)
def restored_root():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_has_component_and_fields(capsys):
    setup_logging("proxy")
    logging.getLogger("x").info("listener opened", extra={"service": "default/web"})
    line = capsys.readouterr().err
    assert line.endswith("INFO    proxy: listener opened service=default/web\n")


def test_json_is_one_object_a_line(capsys):
    setup_logging("proxy", form="json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("it failed", extra={"port": 80})
    record = json.loads(capsys.readouterr().err)
    assert (record["component"], record["level"], record["message"], record["port"]) == (
        "proxy",
        "error",
        "it failed",
        80,
    )
    assert "ValueError: broken" in record["exception"]


def test_level_cuts_off_what_is_below(capsys):
    setup_logging("proxy", level="warning")
    logging.getLogger("x").info("not seen")
    assert capsys.readouterr().err == ""
