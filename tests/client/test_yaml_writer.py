"""Writing YAML: whoever reads it finds the same values."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.client.yaml_reader import read_documents
from emu.client.yaml_writer import write_document, write_documents

FOUND = sorted(map(str, Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*")))
KUBECTL = FOUND or [path for path in [shutil.which("kubectl")] if path]
TRICKY = [
    *("y", "N", "on", "yes", "true", "~", "null", "", "=", "<<", "-", "?", ":"),
    *("#x", "*a", "&b", "!c", "%d", "@e", "`f", '"', "'", "\\", "a #b", "{}", "[]", "|", ">"),
    *("1e3", "012", "0x1F", "0o7", "1_000", "1:30", ".5", "+1", "2024-01-01", "127.96.0.1", "1.0", ".inf"),
    *("a\nb\n", "a\nb", "a \nb", "\n", "\n\n", "x\n\n", " lead\n b", "\ta", "a\tb", "a: b", "- x"),
    *("é", "\U0001f600", "\r\n", "\x7f", "\u2028"),
]
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
KEYS = st.text("abcy01~.", min_size=1)


def config_map(values):
    data = {f"k{number}": value for number, value in enumerate(values)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def test_text_comes_back_as_the_same_text():
    text = write_document(config_map(TRICKY))
    assert next(read_documents(text)).value == config_map(TRICKY)
    assert yaml.safe_load(text) == config_map(TRICKY)


@pytest.mark.parametrize("kubectl", [*KUBECTL[:1], *KUBECTL[1:][-1:]] or [None])
def test_kubectl_reads_the_same(kubectl, tmp_path):
    if kubectl is None:
        pytest.skip("kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)")
    (tmp_path / "a.yaml").write_text(write_document(config_map(TRICKY)))
    arguments = ["label", "--local", "-f", str(tmp_path / "a.yaml"), "x=y", "-o", "json"]
    done = subprocess.run([kubectl, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data"] == config_map(TRICKY)["data"]


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_value_comes_back(value):
    document = {"kind": "A", "spec": value}
    assert next(read_documents(write_document(document))).value == document


def test_what_people_look_for_comes_first():
    document = {
        "spec": {"b": 1, "a": 2},
        "metadata": {"labels": {}, "namespace": "shop", "name": "a"},
        "kind": "A",
        "apiVersion": "v1",
    }
    assert write_documents([document, {"kind": "B"}]) == (
        "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  namespace: shop\n  labels: {}\n"
        "spec:\n  b: 1\n  a: 2\n---\nkind: B\n"
    )
