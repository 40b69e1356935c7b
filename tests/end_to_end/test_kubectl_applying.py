"""kubectl's declarative commands: apply in all its forms, diff, replace, edit, kustomize."""

from __future__ import annotations

import pytest
from kubectl_rows import ABSENT, Do, Exists, File, Give, Gone, Is, Row, cases, row, run

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {set: one}}
data: {k: v, more: x}
"""
CHANGED = CONFIG_MAP.replace("{k: v, more: x}", "{k: w}")
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
"""
ONE_PORT = SERVICE.replace("  - {name: https, port: 443, targetPort: 8443}\n", "").replace("8080", "9090")
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1.27", env: [{name: A, value: a}, {name: B, value: b}]}
"""
KUSTOMIZATION = """
namePrefix: my-
labels: [{pairs: {team: red}}]
resources: [service.yaml]
configMapGenerator:
- {name: settings, literals: [colour=blue]}
"""
STATUS_EDITOR = """#!/usr/bin/env python3
import pathlib, sys

time = "lastTransitionTime: '2026-01-01T00:00:00Z'"
condition = "{type: Fine, status: 'True', reason: Tested, message: m, %s}" % time
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text().replace("\\nstatus:\\n", f"\\nstatus:\\n  conditions: [{condition}]\\n"))
"""
UPPER = "#!/bin/sh\nsed -i 's/k: v/k: edited/' \"$1\"\n"

APPLY = (
    row(
        "apply",
        File("cm.yaml", CONFIG_MAP),
        File("changed.yaml", CHANGED),
        Do("apply -f {dir}/cm.yaml", r"\Aconfigmap/a created\n\Z"),
        Do("apply -f {dir}/cm.yaml", r"\Aconfigmap/a unchanged\n\Z"),
        Do("apply -f {dir}/changed.yaml", r"\Aconfigmap/a configured\n\Z"),
        Is("configmaps/a", "data", {"k": "w"}),
    ),
    row(
        "apply of several, from stdin",
        Do(
            "apply -f -",
            r"\Aconfigmap/a created\nservice/web created\n\Z",
            stdin=CONFIG_MAP + "---" + SERVICE,
        ),
        Do(
            "apply -f -",
            r"configmap/a unchanged\nservice/web unchanged\n",
            stdin=CONFIG_MAP + "---" + SERVICE,
        ),
    ),
    row(
        "apply keeps what others set",
        Do("apply -f -", "created", stdin=SERVICE),
        Do("annotate svc web by=hand"),
        Do("label svc web tier=front"),
        Do("apply -f -", r"\Aservice/web configured\n", stdin=ONE_PORT),
        Is("services/web", "metadata.annotations.by", "hand"),
        Is("services/web", "metadata.labels", {"tier": "front"}),
        Is("services/web", "spec.ports.1", ABSENT),
        Is("services/web", "spec.ports.0.targetPort", 9090),
    ),
    row(
        "apply merges lists by their keys",
        Do("apply -f -", "created", stdin=WEB),
        Do("set env deploy/web C=c"),
        Do("apply -f -", "configured", stdin=WEB.replace(", {name: B, value: b}", ", {name: D, value: d}")),
        Is(
            "deployments.apps/web",
            "spec.template.spec.containers.0.env",
            [{"name": "A", "value": "a"}, {"name": "D", "value": "d"}, {"name": "C", "value": "c"}],
        ),
    ),
    row(
        "apply over what create made",
        Do("create -f -", "created", stdin=CONFIG_MAP),
        Do(
            "apply -f -",
            r"Warning: resource configmaps/a is missing the kubectl.kubernetes.io/last-applied-configuration "
            r"annotation ... configmap/a configured",
            stdin=CHANGED,
        ),
        Is("configmaps/a", "data", {"k": "w", "more": "x"}),
    ),
    row(
        "apply in a namespace that another manifest makes",
        Do(
            "apply -f -",
            r"\Anamespace/{ns}-new created\nconfigmap/a created\n\Z",
            stdin="apiVersion: v1\nkind: Namespace\nmetadata: {name: '{ns}-new'}\n---"
            + CONFIG_MAP.replace("{name: a,", "{name: a, namespace: '{ns}-new',"),
        ),
        Do("delete ns {ns}-new"),
    ),
    row(
        "apply --dry-run",
        Do("apply -f - --dry-run=client", r"\Aconfigmap/a created \(dry run\)\n\Z", stdin=CONFIG_MAP),
        Do("apply -f - --dry-run=server", r"\Aconfigmap/a created \(server dry run\)\n\Z", stdin=CONFIG_MAP),
        Gone("configmaps/a"),
        Do("apply -f -", "created", stdin=CONFIG_MAP),
        Do("apply -f - --dry-run=server", r"\Aconfigmap/a configured \(server dry run\)\n\Z", stdin=CHANGED),
        Do("apply -f - --dry-run=client", r"\Aconfigmap/a configured \(dry run\)\n\Z", stdin=CHANGED),
        Is("configmaps/a", "data.k", "v"),
    ),
    row(
        "apply of what is refused",
        Do(
            "apply -f -",
            r'The Service "web" is invalid: spec.ports\[0\].port: Invalid value: 0: must be between 1 and',
            code=1,
            stdin=SERVICE.replace("port: 80,", "port: 0,"),
        ),
        Do(
            "apply -f -",
            r'strict decoding error: unknown field "spec.selctor"',
            code=1,
            stdin=SERVICE.replace("selector", "selctor"),
        ),
        Gone("services/web"),
        Do("apply -f -", "created", stdin=WEB),
        Do(
            "apply -f -",
            r'The Deployment "web" is invalid: ... spec.selector: Invalid value: .*: field is immutable',
            code=1,
            stdin=WEB.replace("app: web", "app: other"),
        ),
    ),
    row(
        "apply --prune",
        Do("apply -f -", "created", stdin=CONFIG_MAP + "---" + CONFIG_MAP.replace("name: a", "name: b")),
        Do(
            "apply --prune -l set=one --prune-allowlist=core/v1/ConfigMap -f -",
            r"configmap/a unchanged ... configmap/b pruned",
            stdin=CONFIG_MAP,
        ),
        Gone("configmaps/b"),
        Exists("configmaps/a"),
    ),
    row(
        "apply --prune with an ApplySet",
        Do(
            "apply -n {ns} --prune --applyset=parent -f -",
            r"configmap/a serverside-applied|configmap/a created",
            stdin=CONFIG_MAP + "---" + CONFIG_MAP.replace("name: a", "name: b"),
            env={"KUBECTL_APPLYSET": "true"},
        ),
        Do(
            "apply -n {ns} --prune --applyset=parent -f -",
            r"configmap/b pruned",
            stdin=CONFIG_MAP,
            env={"KUBECTL_APPLYSET": "true"},
        ),
        Gone("configmaps/b"),
        Exists("configmaps/a secrets/parent"),
    ),
    row(
        "apply view-last-applied, set-last-applied, edit-last-applied",
        Do("apply -f -", "created", stdin=CONFIG_MAP),
        Do("apply view-last-applied cm/a -o json", r'"k": "v"'),
        File("changed.yaml", CHANGED),
        Do("apply set-last-applied -f {dir}/changed.yaml", r"configmap/a configured"),
        Do("apply view-last-applied cm/a", r"^  k: w"),
        Is("configmaps/a", "data.k", "v"),
        File("edit", UPPER.replace("k: v", "k: w"), 0o755),
        Do("apply edit-last-applied cm/a", r"configmap/a edited", env={"KUBE_EDITOR": "{dir}/edit"}),
        Do("apply view-last-applied cm/a", r"^  k: edited"),
    ),
    row(
        "apply -k, kustomize, delete -k",
        File("service.yaml", SERVICE),
        File("kustomization.yaml", KUSTOMIZATION),
        Do("kustomize {dir}", r"^  name: my-settings-\w{10}$"),
        Do("apply -k {dir}", r"\Aconfigmap/my-settings-\w{10} created\nservice/my-web created\n\Z"),
        Is("services/my-web", "metadata.labels", {"team": "red"}),
        Do("diff -k {dir}", r"\A\Z"),
        Do("delete -k {dir}", r'service "my-web" deleted'),
        Gone("services/my-web"),
    ),
)

SERVER_SIDE = (
    row(
        "apply --server-side",
        Do("apply --server-side -f -", r"\Aconfigmap/a serverside-applied\n\Z", stdin=CONFIG_MAP),
        Is("configmaps/a", "metadata.managedFields.0.manager", "kubectl"),
        Is("configmaps/a", "metadata.managedFields.0.operation", "Apply"),
        Is("configmaps/a", "metadata.annotations", ABSENT),
        Do("apply --server-side -f -", r"\Aconfigmap/a serverside-applied\n\Z", stdin=CHANGED),
        Is("configmaps/a", "data", {"k": "w"}),
    ),
    row(
        "apply --server-side, conflict",
        Do("apply --server-side --field-manager=one -f -", "serverside-applied", stdin=CONFIG_MAP),
        Do(
            "apply --server-side --field-manager=two -f -",
            r'error: Apply failed with 1 conflict: conflict with "one": .data.k',
            code=1,
            stdin=CHANGED,
        ),
        Is("configmaps/a", "data.k", "v"),
        Do(
            "apply --server-side --field-manager=two --force-conflicts -f -",
            "configmap/a serverside-applied",
            stdin=CHANGED,
        ),
        Is("configmaps/a", "data", {"k": "w", "more": "x"}),
    ),
    row(
        "apply --server-side after a client-side change",
        Do("apply --server-side -f -", "serverside-applied", stdin=CONFIG_MAP),
        Do('patch cm a -p \'{"data":{"k":"patched"}}\'', "patched"),
        Do(
            "apply --server-side -f -",
            r'conflict with "kubectl-patch" using v1: .data.k',
            code=1,
            stdin=CONFIG_MAP,
        ),
    ),
    row(
        "apply --server-side --dry-run=server",
        Do(
            "apply --server-side --dry-run=server -f -",
            r"\Aconfigmap/a serverside-applied \(server dry run\)\n",
            stdin=CONFIG_MAP,
        ),
        Gone("configmaps/a"),
    ),
    row(
        "apply --server-side after apply",
        Do("apply -f -", "created", stdin=CONFIG_MAP),
        Do("apply --server-side -f -", "configmap/a serverside-applied", stdin=CHANGED),
        Is("configmaps/a", "data", {"k": "w"}),
    ),
    row(
        "apply --server-side of lists",
        Do("apply --server-side --field-manager=one -f -", "serverside-applied", stdin=SERVICE),
        Do(
            "apply --server-side --field-manager=two -f -",
            "serverside-applied",
            stdin="apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
            "spec: {ports: [{name: dns, port: 53, protocol: UDP}]}",
        ),
        Is("services/web", "spec.ports.2.name", "dns"),
        Do("apply --server-side --field-manager=one -f -", "serverside-applied", stdin=ONE_PORT),
        Is("services/web", "spec.ports.1.name", "dns"),
        Is("services/web", "spec.ports.2", ABSENT),
    ),
    row(
        "diff --server-side",
        Do("apply --server-side -f -", "serverside-applied", stdin=CONFIG_MAP),
        Do("diff --server-side -f -", r"^-  k: v ... ^\+  k: w", code=1, stdin=CHANGED),
    ),
)

DIFF = (
    row(
        "diff",
        Do("diff -f -", r"^\+apiVersion: v1", code=1, stdin=CONFIG_MAP),
        Gone("configmaps/a"),
        Do("apply -f -", "created", stdin=CONFIG_MAP),
        Do("diff -f -", r"\A\Z", stdin=CONFIG_MAP),
        Do("diff -f -", r"^-  k: v\n-  more: x\n\+  k: w", code=1, stdin=CHANGED),
        Is("configmaps/a", "data.k", "v"),
    ),
)

REPLACE = (
    row(
        "replace",
        Do(
            "replace -f -",
            r'\(NotFound\): error when replacing "STDIN": configmaps "a" not found',
            1,
            CONFIG_MAP,
        ),
        Do("create -f -", "created", stdin=CONFIG_MAP),
        Do("replace -f -", r"\Aconfigmap/a replaced\n\Z", stdin=CHANGED),
        Is("configmaps/a", "data", {"k": "w"}),
    ),
    row(
        "replace, optimistic locking",
        Do("create -f -", "created", stdin=CONFIG_MAP),
        Do(
            "replace -f -",
            r'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply '
            "your changes to the latest version and try again",
            code=1,
            stdin=CHANGED.replace("{name: a,", "{name: a, resourceVersion: '1',"),
        ),
        Is("configmaps/a", "data.k", "v"),
    ),
    row(
        "replace of a Service without its addresses",
        Give(SERVICE),
        Do("replace -f -", r"\Aservice/web replaced\n\Z", stdin=ONE_PORT),
        Is("services/web", "spec.ports.0.targetPort", 9090),
        Do("get svc web -o jsonpath={.spec.clusterIP}", r"\A127\."),
    ),
    row(
        "replace --force",
        Do("create -f -", "created", stdin=CONFIG_MAP),
        File("changed.yaml", CHANGED),
        Do("replace --force -f {dir}/changed.yaml", r'configmap "a" deleted.*\nconfigmap/a replaced\n'),
        Is("configmaps/a", "data", {"k": "w"}),
    ),
    row(
        "replace --raw",
        Do("create -f -", "created", stdin=CONFIG_MAP),
        File(
            "a.json",
            '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "r"}}',
        ),
        Do("replace --raw /api/v1/namespaces/{ns}/configmaps/a -f {dir}/a.json", r'"k":"r"'),
    ),
)

EDIT = (
    row(
        "edit",
        File("edit", UPPER, 0o755),
        Do("edit cm a", r"\Aconfigmap/a edited\n\Z", env={"KUBE_EDITOR": "{dir}/edit"}),
        Is("configmaps/a", "data.k", "edited"),
        Do("edit cm a", r"Edit cancelled, no changes made.", env={"KUBE_EDITOR": "true"}),
        given=CONFIG_MAP,
    ),
    row(
        "edit that is refused",
        File("edit", "#!/bin/sh\nsed -i 's/port: 80$/port: 99999/' \"$1\"\n", 0o755),
        Do("edit svc web", r'error: services "web" is invalid', 1, env={"KUBE_EDITOR": "{dir}/edit"}),
        Is("services/web", "spec.ports.0.port", 80),
        given=SERVICE,
    ),
    row(
        "edit --subresource=status",
        File("edit", STATUS_EDITOR, 0o755),
        Do("edit svc web --subresource=status", r"service/web edited", env={"KUBE_EDITOR": "{dir}/edit"}),
        Is("services/web", "status.conditions.0.reason", "Tested"),
        given=SERVICE,
    ),
)


@pytest.mark.parametrize(("binary", "row"), cases((*APPLY, *SERVER_SIDE, *DIFF, *REPLACE, *EDIT)))
def test_applying(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
