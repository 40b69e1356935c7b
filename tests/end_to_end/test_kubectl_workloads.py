"""kubectl's commands around workloads: rollout, wait, scale, and those that open streams to a pod."""

from __future__ import annotations

import pytest
from kubectl_rows import Becomes, Do, Give, Is, Row, While, cases, row, run

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: registry.k8s.io/e2e-test-images/agnhost:2.53
        args: [netexec]
        ports: [{containerPort: 8080}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {k: v}
"""
DONE = r'deployment "web" successfully rolled out\n\Z'

ROLLOUT = (
    row(
        "rollout status",
        Do("rollout status deploy/web --timeout=20s", DONE),
        Is("deployments.apps/web", "status.readyReplicas", 2),
        Do("rollout status deploy/none", r'deployments.apps "none" not found', code=1),
        given=WEB,
    ),
    row(
        "rollout status of one that does not get ready",
        Do("set image deploy/web c=registry.example/no-such-image:1", "updated"),
        Do(
            "rollout status deploy/web --timeout=1s",
            r"Waiting for deployment \"web\" rollout to finish: ... timed out waiting for the condition",
            code=1,
        ),
        Do("rollout status deploy/web --watch=false", r"Waiting for deployment|successfully rolled out"),
        given=WEB.replace("replicas: 2", "replicas: 2\n  paused: true"),
    ),
    row(
        "rollout history, undo",
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("annotate deploy web kubernetes.io/change-cause=first", "annotated?$"),
        Do("set env deploy/web A=b", "env updated"),
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("rollout history deploy/web", r"^REVISION +CHANGE-CAUSE\n1 +first\n2 "),
        Do("rollout history deploy/web --revision=2", r"with revision #2\n ... A:\tb\n"),
        Do("rollout undo deploy/web --dry-run=server", r"rolled back \(server dry run\)"),
        Do("rollout undo deploy/web", r"\Adeployment.apps/web rolled back\n\Z"),
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("get deploy web -o jsonpath='{.spec.template.spec.containers[0].env}'", r"\A\Z"),
        Do("rollout history deploy/web", r"^REVISION +CHANGE-CAUSE\n2 .*\n3 "),
        Do("rollout undo deploy/web --to-revision=2", "rolled back"),
        Is("deployments.apps/web", "spec.template.spec.containers.0.env", [{"name": "A", "value": "b"}]),
        Do("rollout undo deploy/web --to-revision=77", "unable to find specified revision 77", code=1),
        given=WEB,
    ),
    row(
        "rollout restart",
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("rollout restart deploy/web", r"\Adeployment.apps/web restarted\n\Z"),
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("get rs -l app=web --no-headers", r"^web-\w+ +0 +0 +0 "),
        Do(
            "get deploy web -o jsonpath='{.spec.template.metadata.annotations}'",
            r"kubectl.kubernetes.io/restartedAt",
        ),
        given=WEB,
    ),
    row(
        "rollout pause, resume",
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("rollout pause deploy/web", r"\Adeployment.apps/web paused\n\Z"),
        Do("rollout pause deploy/web", r"already paused", code=1),
        Do("set env deploy/web A=b", "env updated"),
        Becomes("deployments.apps/web", "status.observedGeneration", 3),
        Do("get rs -l app=web -o name", r"\Areplicaset.apps/web-\w+\n\Z"),
        Do("rollout restart deploy/web", r"can't restart paused deployment", code=1),
        Do("rollout resume deploy/web", r"\Adeployment.apps/web resumed\n\Z"),
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("get pods -l app=web -o jsonpath='{.items[*].spec.containers[0].env[0].value}'", r"\Ab b"),
        given=WEB,
    ),
    row(
        "scale, with pods",
        Do("rollout status deploy/web --timeout=20s", DONE),
        Do("scale deploy/web --replicas=4", "scaled"),
        Do("wait deploy/web --for=jsonpath={.status.readyReplicas}=4 --timeout=20s", "condition met"),
        Do("scale deploy/web --replicas=1 --timeout=20s", "scaled"),
        Becomes("deployments.apps/web", "status.replicas", 1),
        given=WEB,
    ),
)

WAIT = (
    row(
        "wait --for=condition",
        Do(
            "wait deploy/web --for=condition=Available --timeout=20s",
            r"\Adeployment.apps/web condition met\n\Z",
        ),
        Do(
            "wait pods -l app=web --for=condition=Ready --timeout=20s",
            r"pod/web-\S+ condition met\npod/web-\S+ ",
        ),
        Do(
            "wait deploy/web --for=condition=Nothing --timeout=0s",
            r"timed out waiting|condition not met",
            code=1,
        ),
        given=WEB,
    ),
    row(
        "wait --for=jsonpath",
        Do("wait cm/a --for=jsonpath={.data.k}=v", r"\Aconfigmap/a condition met\n\Z"),
        While(
            "wait cm/a --for=jsonpath={.data.k}=w --timeout=20s",
            "",
            (Do("patch cm a -p 'data: {k: w}'"),),
            r"\Aconfigmap/a condition met\n",
            code=0,
        ),
        Do(
            "wait cm/a --for=jsonpath={.data.k}=x --timeout=1s",
            r"timed out waiting for the condition on",
            code=1,
        ),
        Do("wait cm/none --for=jsonpath={.data.k}=x --timeout=1s", r'configmaps "none" not found', code=1),
        given=CONFIG_MAP,
    ),
    row(
        "wait --for=delete",
        While(
            "wait cm/a --for=delete --timeout=20s",
            "",
            (Do("delete cm a"),),
            r"\Aconfigmap/a condition met\n|\AError from server \(NotFound\)|\A",
        ),
        Do("wait cm/none --for=delete --timeout=20s", r"\A\Z|condition met|not found"),
        given=CONFIG_MAP,
    ),
    row(
        "wait --for=create",
        While(
            "wait cm/late --for=create --timeout=20s",
            "",
            (Give(CONFIG_MAP.replace("name: a", "name: late")),),
            r"\Aconfigmap/late condition met\n",
            code=0,
        ),
        Do("wait cm/never --for=create --timeout=1s", r"timed out|not found", code=1),
        since=31,
    ),
)

NOT_YET = "emu does not serve pods/"
STREAMS = (
    row(
        "logs",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("logs alone", rf"{NOT_YET}log yet", code=1),
        Do("logs none", r'pods "none" not found', code=1),
        given=POD,
    ),
    row(
        "exec",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("exec alone -- true", rf"{NOT_YET}exec yet", code=1),
        given=POD,
    ),
    row(
        "attach",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("attach alone", rf"{NOT_YET}(attach|log) yet", code=1),
        given=POD,
    ),
    row(
        "port-forward",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("port-forward alone :8080", rf"{NOT_YET}portforward yet", code=1),
        given=POD,
    ),
    row(
        "cp",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("cp alone:/etc/hostname {dir}/hostname", rf"{NOT_YET}exec yet", code=1),
        given=POD,
    ),
    row(
        "debug",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("debug alone --image=busybox -q -- true", rf"{NOT_YET}ephemeralcontainers yet", code=1),
        given=POD,
    ),
    row(
        "run --rm -i",
        Do(
            "run once --rm -i --restart=Never --image=registry.k8s.io/e2e-test-images/agnhost:2.53 "
            "--pod-running-timeout=20s -- netexec",
            rf"{NOT_YET}(attach|log) yet",
            code=1,
        ),
    ),
)


@pytest.mark.parametrize(("binary", "row"), cases((*ROLLOUT, *WAIT, *STREAMS)))
def test_workloads(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
