"""kubectl's commands that change objects: patch, label, annotate, set, scale, taint, cordon, drain."""

from __future__ import annotations

import pytest
from kubectl_rows import ABSENT, Becomes, Do, Exists, Gone, Is, Row, cases, row, run

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: x}}
data: {k: v, more: x}
"""
ONE_KEY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {k: v}
"""
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
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1.27", env: [{name: A, value: a}]}
      - {name: d, image: "busybox:1"}
"""
ROLE_BINDING = """
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: read}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]
"""
SLEEPERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleepers}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleepers}}
  template:
    metadata: {labels: {app: sleepers}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}]
"""
LOOSE_POD = """
apiVersion: v1
kind: Pod
metadata: {name: loose, labels: {app: loose}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}]
"""
CAREFUL = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: careful}
spec: {minAvailable: 1, selector: {matchLabels: {app: loose}}}
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: "{ns}"}
"""

PATCH = (
    row(
        "patch, strategic",
        Do(
            'patch svc web -p \'{"spec":{"ports":[{"port":80,"targetPort":9090}]}}\'',
            r"\Aservice/web patched\n\Z",
        ),
        Is("services/web", "spec.ports.0.targetPort", 9090),
        Is("services/web", "spec.ports.1.port", 443),
        Do('patch svc web -p \'{"spec":{"ports":[{"port":443,"$patch":"delete"}]}}\'', "patched"),
        Is("services/web", "spec.ports.1", ABSENT),
        Do('patch svc web -p \'{"spec":{"type":"ClusterIP"}}\'', r"\Aservice/web patched \(no change\)\n"),
        given=SERVICE,
    ),
    row(
        "patch, as YAML",
        Do("patch cm a -p 'data: {k: w}'", r"\Aconfigmap/a patched\n"),
        Is("configmaps/a", "data", {"k": "w", "more": "x"}),
        given=CONFIG_MAP,
    ),
    row(
        "patch --type=merge",
        Do('patch cm a --type=merge -p \'{"data":{"k":null}}\'', r"\Aconfigmap/a patched\n"),
        Is("configmaps/a", "data", {"more": "x"}),
        Do('patch svc web --type=merge -p \'{"spec":{"ports":[{"port":81}]}}\'', "patched"),
        Is("services/web", "spec.ports.1", ABSENT),
        given=CONFIG_MAP + "---" + SERVICE,
    ),
    row(
        "patch --type=json",
        Do(
            'patch cm a --type=json -p \'[{"op":"test","path":"/data/k","value":"v"},'
            '{"op":"replace","path":"/data/k","value":"w"},{"op":"add","path":"/data/n","value":"1"},'
            '{"op":"remove","path":"/data/more"}]\'',
            r"\Aconfigmap/a patched\n",
        ),
        Is("configmaps/a", "data", {"k": "w", "n": "1"}),
        Do(
            'patch cm a --type=json -p \'[{"op":"test","path":"/data/k","value":"v"}]\'',
            r"The request is invalid: ... test",
            code=1,
        ),
        Do(
            'patch cm a --type=json -p \'[{"op":"remove","path":"/data/none"}]\'',
            r"The request is invalid",
            code=1,
        ),
        given=CONFIG_MAP,
    ),
    row(
        "patch --subresource=status",
        Do(
            'patch svc web --subresource=status --type=merge -p \'{"status":{"conditions":[{"type":"Fine",'
            '"status":"True","reason":"Tested","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}\'',
            "service/web patched",
        ),
        Is("services/web", "status.conditions.0.reason", "Tested"),
        Do('patch svc web --subresource=status --type=merge -p \'{"spec":{"type":"NodePort"}}\''),
        Is("services/web", "spec.type", "ClusterIP"),
        given=SERVICE,
    ),
    row(
        "patch --subresource=scale",
        Do(
            'patch deploy web --subresource=scale --type=merge -p \'{"spec":{"replicas":0}}\'',
            r"web patched",
        ),
        Is("deployments.apps/web", "spec.replicas", 0),
        given=WEB,
    ),
    row(
        "patch --dry-run",
        Do("patch cm a -p 'data: {k: w}' --dry-run=server", r"\Aconfigmap/a patched\n"),
        Do("patch cm a -p 'data: {k: w}' --dry-run=client", r"\Aconfigmap/a patched\n"),
        Is("configmaps/a", "data.k", "v"),
        given=CONFIG_MAP,
    ),
    row(
        "patch that is refused",
        Do("patch cm none -p '{}'", r'\(NotFound\): configmaps "none" not found', code=1),
        Do(
            'patch svc web -p \'{"spec":{"ports":[{"port":80,"targetPort":70000}]}}\'',
            r'"web" is invalid: spec.ports\[0\].targetPort: Invalid value: 70000: must be between 1 and',
            code=1,
        ),
        Do(
            'patch svc web -p \'{"spec":{"clusterIP":"127.96.7.7"}}\'',
            r'"web" is invalid: spec.clusterIPs\[0\]: Invalid value: \["127.96.7.7"\]: may not change once',
            code=1,
        ),
        Do("patch svc web -p '{\"spec\":[]}'", r"invalid|cannot unmarshal|expected", code=1),
        given=CONFIG_MAP + "---" + SERVICE,
    ),
)

LABEL = (
    row(
        "label",
        Do("label cm a tier=front", r"\Aconfigmap/a labeled\n\Z"),
        Is("configmaps/a", "metadata.labels", {"app": "x", "tier": "front"}),
        Do("label cm a tier=front", r"\Aconfigmap/a not labeled\n\Z"),
        Do("label cm a tier=back", r"'tier' already has a value \(front\), and --overwrite is false", code=1),
        Do("label cm a tier=back --overwrite", r"\Aconfigmap/a labeled\n"),
        Do("label cm a tier-", r"\Aconfigmap/a unlabeled\n\Z"),
        Is("configmaps/a", "metadata.labels", {"app": "x"}),
        Do("label cm a none-", r'label "none" not found.'),
        given=CONFIG_MAP,
    ),
    row(
        "label -l, --all, --list, --dry-run",
        Do("label cm -l app=x seen=yes", r"\Aconfigmap/a labeled\n\Z"),
        Do("label svc --all seen=yes", r"\Aservice/web labeled\n\Z"),
        Do("label cm a --list", r"^app=x\n"),
        Do("label cm a --list", r"^seen=yes\n"),
        Do("label cm a more=1 --dry-run=server", r"configmap/a labeled"),
        Is("configmaps/a", "metadata.labels", {"app": "x", "seen": "yes"}),
        Do("label svc web --resource-version=1 x=y", r"the object has been modified", code=1),
        given=CONFIG_MAP + "---" + SERVICE,
    ),
    row(
        "label that is wrong",
        Do("label cm a 'app=not good' --overwrite", r"Invalid value|invalid label", code=1),
        given=CONFIG_MAP,
    ),
    row(
        "annotate",
        Do("annotate cm a note='with words'", r"\Aconfigmap/a annotated?\n\Z"),
        Is("configmaps/a", "metadata.annotations", {"note": "with words"}),
        Do("annotate cm a note=other", r"--overwrite is false", code=1),
        Do("annotate cm a note=other --overwrite", "annotate"),
        Do("annotate cm a note-", r"\Aconfigmap/a annotated?\n\Z"),
        Is("configmaps/a", "metadata.annotations", ABSENT),
        given=CONFIG_MAP,
    ),
)

SET = (
    row(
        "set image",
        Do("set image deploy/web c=nginx:1.28", r"\Adeployment.apps/web image updated\n\Z"),
        Is("deployments.apps/web", "spec.template.spec.containers.0.image", "nginx:1.28"),
        Is("deployments.apps/web", "spec.template.spec.containers.1.image", "busybox:1"),
        Do("set image deploy/web *=nginx:2", "image updated"),
        Is("deployments.apps/web", "spec.template.spec.containers.1.image", "nginx:2"),
        Do("set image deploy/web none=x", r'unable to find container named "none"', code=1),
        given=WEB,
    ),
    row(
        "set env",
        Do("set env deploy/web -c c B=b A-", r"\Adeployment.apps/web env updated\n\Z"),
        Is("deployments.apps/web", "spec.template.spec.containers.0.env", [{"name": "B", "value": "b"}]),
        Do("set env deploy/web --list", r"container c\nB=b\n"),
        Do("set env deploy/web --from=cm/one", "env updated"),
        Is(
            "deployments.apps/web",
            "spec.template.spec.containers.1.env.0.valueFrom.configMapKeyRef",
            {"name": "one", "key": "k"},
        ),
        given=WEB + "---" + ONE_KEY,
    ),
    row(
        "set resources",
        Do(
            "set resources deploy web -c=c --limits=cpu=200m,memory=512Mi --requests=cpu=100m",
            r"\Adeployment.apps/web resource requirements updated\n\Z",
        ),
        Is(
            "deployments.apps/web",
            "spec.template.spec.containers.0.resources",
            {"limits": {"cpu": "200m", "memory": "512Mi"}, "requests": {"cpu": "100m"}},
        ),
        given=WEB,
    ),
    row(
        "set selector",
        Do("set selector svc web app=other,tier=x", r"\Aservice/web selector updated\n\Z"),
        Is("services/web", "spec.selector", {"app": "other", "tier": "x"}),
        given=SERVICE,
    ),
    row(
        "set serviceaccount",
        Do("set serviceaccount deploy web robot", r"\Adeployment.apps/web serviceaccount updated\n\Z"),
        Is("deployments.apps/web", "spec.template.spec.serviceAccountName", "robot"),
        given=WEB,
    ),
    row(
        "set subject",
        Do("set subject rolebinding read --user=joe --group=ops", r"rolebinding\S*/read subjects updated"),
        Is("rolebindings.rbac.authorization.k8s.io/read", "subjects.2.name", "ops"),
        given=ROLE_BINDING,
    ),
)

SCALE = (
    row(
        "scale",
        Do("scale deploy web --replicas=1", r"\Adeployment.apps/web scaled\n\Z"),
        Is("deployments.apps/web", "spec.replicas", 1),
        Do("scale deploy/web --current-replicas=5 --replicas=2", r"Expected replicas to be 5, was 1", code=1),
        Do("scale deploy/web --current-replicas=1 --replicas=0", r"\Adeployment.apps/web scaled\n\Z"),
        Is("deployments.apps/web", "spec.replicas", 0),
        Do("scale deploy none --replicas=1", r'deployments.apps "none" not found|no objects passed', code=1),
        Do("scale svc web --replicas=1", r"could not find the requested resource", code=1),
        given=WEB + "---" + SERVICE,
    ),
)

NODES = (
    row(
        "taint",
        Do("taint node {ns} key=value:NoSchedule other:NoExecute", r"\Anode/{ns} tainted\n\Z"),
        Becomes("nodes/{ns}", "spec.taints.0.effect", "NoSchedule"),
        Do("taint node {ns} key=new:NoSchedule", r"already has .*--overwrite is false", code=1),
        Do("taint node {ns} key=new:NoSchedule --overwrite", r"\Anode/{ns} modified\n\Z"),
        Do("taint node {ns} key:NoSchedule-", r"\Anode/{ns} untainted\n\Z"),
        Do("taint node {ns} key:NoSchedule-", r'taint "key:NoSchedule" not found', code=1),
        Do("taint node {ns} key=v:Sometimes", r"invalid taint effect", code=1),
        Do("delete node {ns}", "deleted"),
        given=NODE,
    ),
    row(
        "cordon, uncordon",
        Do("cordon {ns}", r"\Anode/{ns} cordoned\n\Z"),
        Is("nodes/{ns}", "spec.unschedulable", True),
        Do("cordon {ns}", r"\Anode/{ns} already cordoned\n\Z"),
        Do("get node {ns}", r"SchedulingDisabled"),
        Do("uncordon {ns}", r"\Anode/{ns} uncordoned\n\Z"),
        Is("nodes/{ns}", "spec.unschedulable", ABSENT),
        Do("uncordon {ns}", r"\Anode/{ns} already uncordoned\n\Z"),
        Do("cordon none", r'nodes "none" not found', code=1),
        Do("delete node {ns}", "deleted"),
        given=NODE,
    ),
    row(
        "drain",
        Do("rollout status deploy/sleepers --timeout=20s", "successfully rolled out"),
        Do(
            "drain node-2 --pod-selector=app=sleepers --timeout=20s",
            r"node/node-2 (already )?cordoned\n ... ^node/node-2 drained$",
        ),
        Do("rollout status deploy/sleepers --timeout=20s", "successfully rolled out"),
        Do("get pods -l app=sleepers -o jsonpath='{.items[*].spec.nodeName}'", r"\Anode-1( node-1)+\Z"),
        Do("uncordon node-2", r"\Anode/node-2 uncordoned\n\Z"),
        given=SLEEPERS,
    ),
    row(
        "drain of a pod of nobody",
        Do("wait pod/loose --for=condition=Ready --timeout=20s", "condition met"),
        Do(
            "drain node-2 --pod-selector=app=loose",
            r"cannot delete .*Pods (that )?declare no controller .*{ns}/loose",
            code=1,
        ),
        Exists("pods/loose"),
        Do(
            "drain node-2 --pod-selector=app=loose --force --timeout=20s",
            r"pod/loose evicted\nnode/node-2 drained",
        ),
        Gone("pods/loose"),
        Do("uncordon node-2", "uncordoned"),
        given=LOOSE_POD,
    ),
    row(
        "drain against a budget",
        Do("wait pod/loose --for=condition=Ready --timeout=20s", "condition met"),
        # What the disruption controller of a cluster writes.
        Do(
            "patch pdb careful --subresource=status --type=merge -p "
            '\'{"status":{"observedGeneration":1,"currentHealthy":1,"desiredHealthy":1,"expectedPods":1}}\'',
            "patched",
        ),
        Do(
            "drain node-2 --pod-selector=app=loose --force --timeout=2s",
            r"Cannot evict pod as it would violate the pod's disruption budget",
            code=1,
        ),
        Exists("pods/loose"),
        Do("delete pdb careful", "deleted"),
        Do("drain node-2 --pod-selector=app=loose --force --timeout=20s", r"node/node-2 drained"),
        Do("uncordon node-2", "uncordoned"),
        given=LOOSE_POD + "---" + CAREFUL,
    ),
)


@pytest.mark.parametrize(("binary", "row"), cases((*PATCH, *LABEL, *SET, *SCALE, *NODES)))
def test_changing(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
