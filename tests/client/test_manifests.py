"""Reading manifests: what is taken, and what is said of what is not."""

import pytest

from emu.client.manifests import ManifestError, load_manifests

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"


def load(tmp_path, text: str | bytes):
    file = tmp_path / "m.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_manifests([file])


def test_documents_and_lists_become_objects_in_order(tmp_path):
    listed = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}"
    text = f"---\n{POD}---\n---\n{listed}"
    assert [manifest.title for manifest in load(tmp_path, text)] == ["Pod a", "Pod b"]


def test_a_directory_is_read_by_name(tmp_path):
    for name in ("2.yml", "1.yaml", "3.json", "note.txt"):
        (tmp_path / name).write_text(POD.replace("name: a", f"name: {name}"))
    assert [manifest.title for manifest in load_manifests([tmp_path])] == [
        "Pod 1.yaml",
        "Pod 2.yml",
        "Pod 3.json",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no object"),
        ("# nothing\n---\n", "holds no object"),
        ("just words", "`kind` is missing"),
        ("- kind: Pod", "`kind` is missing"),
        ("kind: Pod", "has no `apiVersion`"),
        ("kind: Pod\napiVersion: v1", "has no `metadata`"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: 12}", "metadata.name of the Pod is 12, not text"),
        ("a:\n\tb: c", "line 2 is not YAML"),
        (b"\xfa\xfb", "is not YAML"),
        ("? [a, b]\n: c", "is not YAML"),
        (POD + "spec: &x\n  again: *x", "line 5 is not YAML: the alias *x is inside of what it repeats"),
        (POD + "spec: {1: 2, [a]: b}", "is not YAML"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path, text, expected):
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "m.yaml") in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        load_manifests([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="has no manifests"):
        load_manifests([tmp_path / "empty"])
