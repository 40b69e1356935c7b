"""kubectl's commands about who may do what, and about the connection itself: auth, config, proxy, top."""

from __future__ import annotations

import pytest
from kubectl_rows import Do, Exists, Is, Row, While, cases, row, run

RBAC = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: "{ns}"}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: read, namespace: "{ns}"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]
"""

AUTH = (
    row(
        "auth can-i",
        Do("auth can-i create pods", r"^yes$"),
        Do("auth can-i '*' '*' -A", r"^yes$"),
        Do("auth can-i get deployments.apps/web --subresource=scale", r"^yes$"),
        Do("auth can-i get /healthz", r"^yes$"),
        Do("auth can-i list pods -q", r"\A\Z"),
        Do("auth can-i create nothings", r"the server doesn't have a resource type 'nothings'\s+yes$"),
    ),
    row(
        "auth can-i --list",
        Do(
            "auth can-i --list",
            r"^Resources +Non-Resource URLs +Resource Names +Verbs\n\*\.\* +\[\] +\[\] +\[\*\]",
        ),
    ),
    row(
        "auth whoami",
        Do("auth whoami", r"\AATTRIBUTE +VALUE\nUsername +\S+ ... \nGroups +\[\S*system:masters"),
        since=28,
    ),
    row("auth whoami, as JSON", Do("auth whoami -o json", r'"kind": "SelfSubjectReview"'), since=28),
    row(
        "auth reconcile",
        Do("auth reconcile -f -", r"role.rbac.authorization.k8s.io/reader reconciled", stdin=RBAC),
        Exists("roles.rbac.authorization.k8s.io/reader rolebindings.rbac.authorization.k8s.io/read"),
        Do("auth reconcile -f -", "reconciled", stdin=RBAC.replace("verbs: [get]", "verbs: [list]")),
        Is("roles.rbac.authorization.k8s.io/reader", "rules.1.verbs", ["list"]),
    ),
)

CONNECTION = (
    row(
        "config view",
        Do("config view", r"server: {server} ... token: REDACTED"),
        Do("config view --minify -o jsonpath='{..namespace}'", r"\A{ns}\Z"),
        Do("config current-context", r"\A\S+\n\Z"),
        Do("config get-contexts", r"^\* +\S+ +\S+ +\S+ +{ns}$"),
        Do("config get-clusters", r"\ANAME\n\S+\n\Z"),
        Do("config get-users", r"\ANAME\n\S+\n\Z"),
        Do("config set-context --current --namespace=default", "modified"),
        Do("get svc", r"^kubernetes +ClusterIP "),
    ),
    row(
        "proxy",
        While("proxy --port=0", r"^Starting to serve on 127.0.0.1:\d+", (), ""),
    ),
    row(
        "a token that is wrong",
        Do(
            "get pods --token=wrong",
            r"You must be logged in to the server|the server has asked for the client to provide credentials",
            code=1,
        ),
    ),
    row(
        "a CA that is wrong",
        Do(
            "get pods --certificate-authority=/dev/null",
            r"certificate|unable to load root certificates",
            code=1,
        ),
    ),
    row(
        "no server",
        Do("get pods -s https://127.0.0.1:1", r"connection to the server 127.0.0.1:1 was refused", 1),
    ),
    row("top", Do("top pods", r"error: Metrics API not available", code=1)),
    row("top nodes", Do("top nodes", r"error: Metrics API not available", code=1)),
    row("get --as", Do("get pods --as=jane", r"No resources found|forbidden|impersonat")),
    row("get with a timeout", Do("get cm --request-timeout=10s -A", r"kube-root-ca.crt")),
    row("-v 8 tells the requests", Do("get cm -v=8 -A", r"{server}/api/v1/configmaps\?limit=500")),
    row("plugin list", Do("plugin list", r"error: unable to find any kubectl plugins in your PATH", code=1)),
    row("options", Do("options", r"--kubeconfig=")),
    row("completion", Do("__complete get svc -n default kub", r"^kubernetes$")),
)


@pytest.mark.parametrize(("binary", "row"), cases((*AUTH, *CONNECTION)))
def test_access(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
