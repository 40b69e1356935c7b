"""Reading manifests: what is taken, and what is said of what is not."""

import io
from pathlib import Path

import pytest

from emu.client.manifests import SNAPSHOT_MARK, ManifestError, load_manifests

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
        (b"PK\x03\x04\x00\x00", "holds binary data"),
        (b"\xff\xfe\x00\xd8", "is no text"),
        ("[" * 100_000, "is not YAML"),
        ('{"a": ' * 100_000, "is not YAML"),
        ('{"apiVersion": "v1",\n "kind": ]', "line 2 is not YAML"),
        (POD + "---\n" + POD, "line 5: Pod a is there already, in"),
        (POD + "data: {a: " + "x" * (3 << 20) + "}", "line 1: Pod a has 3.0 MiB"),
        ("kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1", "kubectl kustomize"),
        ("apiVersion: v1\nkind: List\nitems:\n- a\n- b", "line 4 holds something that is no Kubernetes"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: yes}", "metadata.name of the Pod is True, not text"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path, text, expected):
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "m.yaml") in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_object_knows_its_line(tmp_path):
    text = f"# a note\n{POD}---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {{name: b}}\n"
    file = tmp_path / "m.yaml"
    assert [(manifest.title, manifest.origin) for manifest in load(tmp_path, text)] == [
        ("Pod a", f"{file}, line 2"),
        ("Pod b", f"{file}, line 9"),
    ]


def test_json_and_utf_16_are_read(tmp_path):
    document = '{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {}}]}'
    assert [manifest.title for manifest in load(tmp_path, document)] == ["Pod (no name)"]
    assert [manifest.title for manifest in load(tmp_path, POD.encode("utf-16"))] == ["Pod a"]


def test_one_name_in_two_namespaces_is_two_objects(tmp_path):
    assert len(load(tmp_path, POD + "---\n" + POD.replace("name: a", "name: a, namespace: shop"))) == 2


def test_a_snapshot_is_recognised(tmp_path):
    assert [m.of_snapshot for m in load(tmp_path, POD)] == [False]
    assert [m.of_snapshot for m in load(tmp_path, f"{SNAPSHOT_MARK} of a cluster\n---\n{POD}")] == [True]


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(POD.encode())))
    assert [m.origin for m in load_manifests([Path("-")])] == ["standard input, line 1"]


def test_a_kustomization_has_to_be_built_first(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: []")
    with pytest.raises(ManifestError, match=r"run `kubectl kustomize .* > built.yaml` and give built.yaml"):
        load_manifests([tmp_path])


def test_directories_among_files_are_passed_over(tmp_path):
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "a.yaml").write_text(POD)
    assert len(load_manifests([tmp_path])) == 1


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        load_manifests([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="has no manifests"):
        load_manifests([tmp_path / "empty"])
