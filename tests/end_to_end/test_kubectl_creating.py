"""kubectl's commands that create and delete: create in all its forms, run, expose, autoscale, delete."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubectl_rows import Do, Exists, File, Gone, Is, Row, While, cases, row, run

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: x}}
data: {k: v}
"""
THREE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: x}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b, labels: {app: x}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
"""
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
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: registry.k8s.io/e2e-test-images/agnhost:2.53
        args: [netexec]
        ports: [{containerPort: 8080}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {app: alone}}
spec:
  containers:
  - name: c
    image: registry.k8s.io/e2e-test-images/agnhost:2.53
    args: [netexec]
    ports: [{containerPort: 8080}]
"""
CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  suspend: true
  jobTemplate:
    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}}
"""


def _certificate() -> tuple[str, str]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.com")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    return signed.public_bytes(pem).decode(), private.decode()


CERTIFICATE, KEY = _certificate()


def _typed(kind: str, metadata: str, spec: str = "") -> str:
    text = f"apiVersion: v1\nkind: {kind}\nmetadata: {{{metadata}}}\n"
    return f"{text}spec: {spec}\n" if spec else text


CREATE_FROM_FILES = (
    row(
        "create -f",
        Do("create -f -", r"\Aconfigmap/a created\n\Z", stdin=CONFIG_MAP),
        Is("configmaps/a", "data", {"k": "v"}),
        Do(
            "create -f -",
            r'\(AlreadyExists\): error when creating "STDIN": configmaps "a" already exists\n\Z',
            code=1,
            stdin=CONFIG_MAP,
        ),
    ),
    row(
        "create -f of a directory",
        File("all/1.yaml", CONFIG_MAP),
        File("all/2.yaml", SERVICE),
        Do("create -f {dir}/all", r"\Aconfigmap/a created\nservice/web created\n\Z"),
        Exists("configmaps/a services/web"),
    ),
    row(
        "create -f of JSON and a List",
        Do(
            "create -f -",
            r"\Aconfigmap/one created\nconfigmap/two created\n\Z",
            stdin="""{"apiVersion": "v1", "kind": "List", "items": [
              {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}},
              {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}}]}""",
        ),
    ),
    row(
        "create -f with generateName",
        Do(
            "create -f -",
            r"\Aconfigmap/x-\w{5} created\n\Z",
            stdin=_typed("ConfigMap", "generateName: x-"),
        ),
    ),
    row(
        "create -f --save-config",
        Do("create --save-config -f -", "created", stdin=CONFIG_MAP),
        Do("apply view-last-applied cm/a", r"k: v"),
    ),
    row(
        "create -f, names and types that are wrong",
        Do(
            "create -f -",
            r'The ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123',
            code=1,
            stdin=_typed("ConfigMap", "name: A_b"),
        ),
        Do(
            "create -f -",
            r'cannot be handled as a Service: strict decoding error: unknown field "spec.prots"',
            code=1,
            stdin=_typed("Service", "name: s", "{prots: []}"),
        ),
        Do(
            "create --validate=warn -f -",
            r'Warning: unknown field "spec.prots" ... service/s created',
            stdin=_typed("Service", "name: s", "{prots: [], ports: [{port: 1}]}"),
        ),
        Do(
            "create --validate=ignore -f -",
            r"\Aservice/t created",
            stdin=_typed("Service", "name: t", "{prots: [], ports: [{port: 1}]}"),
        ),
        Do(
            "create -f -",
            r'The Service "bad" is invalid: spec.ports\[0\].port: Invalid value: 99999: '
            r"must be between 1 and 65535, inclusive",
            code=1,
            stdin=_typed("Service", "name: bad", "{ports: [{port: 99999, targetPort: 80}]}"),
        ),
        Do(
            "create -f -",
            # Before it says so, kubectl looks for a definition of a custom resource, a kind not served here.
            r'no matches for kind "Nothing" in version "v1"|failed to list CRDs',
            code=1,
            stdin=_typed("Nothing", "name: n"),
        ),
    ),
    row(
        "create in no namespace",
        Do(
            "create -n nowhere -f -",
            r'Error from server \(NotFound\): error when creating "STDIN": namespaces "nowhere" not found',
            code=1,
            stdin=CONFIG_MAP,
        ),
    ),
    row(
        "create -f --dry-run",
        Do("create -f - --dry-run=client", r"\Aconfigmap/a created \(dry run\)\n", stdin=CONFIG_MAP),
        Do("create -f - --dry-run=server", r"\Aconfigmap/a created \(server dry run\)\n", stdin=CONFIG_MAP),
        Do("create -f - --dry-run=server -o yaml", r"^  uid: ", stdin=CONFIG_MAP),
        Gone("configmaps/a"),
    ),
    row(
        "create --raw",
        File("cm.json", '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "raw"}}'),
        Do("create --raw /api/v1/namespaces/{ns}/configmaps -f {dir}/cm.json", r'"name":"raw"'),
        Exists("configmaps/raw"),
    ),
)

CREATE_BY_NAME = (
    row(
        "create ns",
        Do("create ns {ns}-more", r"\Anamespace/{ns}-more created\n\Z"),
        Is("namespaces/{ns}-more", "status.phase", "Active"),
        Do("create ns {ns}-more", r'\(AlreadyExists\): namespaces "{ns}-more" already exists', code=1),
        Do("delete ns {ns}-more", "deleted"),
        Gone("namespaces/{ns}-more"),
    ),
    row(
        "create cm",
        File("app.conf", "debug=1\n"),
        Do(
            "create cm settings --from-literal=a=1 --from-file={dir}/app.conf",
            r"\Aconfigmap/settings created\n\Z",
        ),
        Is("configmaps/settings", "data", {"a": "1", "app.conf": "debug=1\n"}),
    ),
    row(
        "create secret generic",
        Do("create secret generic s --from-literal=password=hunter2", r"\Asecret/s created\n\Z"),
        Is("secrets/s", "type", "Opaque"),
        Is("secrets/s", "data", {"password": "aHVudGVyMg=="}),
    ),
    row(
        "create cm and secret of bytes",
        File("bin", bytes(range(256))),
        Do("create cm c --from-file={dir}/bin", r"\Aconfigmap/c created\n\Z"),
        Is("configmaps/c", "binaryData", {"bin": base64.b64encode(bytes(range(256))).decode()}),
        Do("create secret generic s --from-file={dir}/bin", r"\Asecret/s created\n\Z"),
        Is("secrets/s", "data", {"bin": base64.b64encode(bytes(range(256))).decode()}),
    ),
    row(
        "create secret tls",
        File("crt", CERTIFICATE),
        File("key", KEY),
        Do("create secret tls t --cert={dir}/crt --key={dir}/key", r"\Asecret/t created\n\Z"),
        Is("secrets/t", "type", "kubernetes.io/tls"),
        Is("secrets/t", "data.tls\\.crt", base64.b64encode(CERTIFICATE.encode()).decode()),
    ),
    row(
        "create secret docker-registry",
        Do(
            "create secret docker-registry r --docker-server=r.io --docker-username=u --docker-password=p",
            r"\Asecret/r created\n\Z",
        ),
        Is("secrets/r", "type", "kubernetes.io/dockerconfigjson"),
    ),
    row(
        "create deploy",
        Do("create deploy d --image=nginx:1.27 --replicas=0 --port=80", r"\Adeployment.apps/d created\n\Z"),
        Is("deployments.apps/d", "spec.replicas", 0),
        Is("deployments.apps/d", "spec.selector.matchLabels", {"app": "d"}),
        Is("deployments.apps/d", "spec.template.spec.containers.0.image", "nginx:1.27"),
        Is("deployments.apps/d", "spec.template.spec.containers.0.ports.0.containerPort", 80),
    ),
    row(
        "create svc clusterip",
        Do("create svc clusterip s --tcp=80:8080 --tcp=443", r"\Aservice/s created\n\Z"),
        Is("services/s", "spec.type", "ClusterIP"),
        Is("services/s", "spec.ports.0.name", "80-8080"),
        Is("services/s", "spec.ports.0.targetPort", 8080),
        Is("services/s", "spec.ports.1.targetPort", 443),
        Is("services/s", "spec.selector", {"app": "s"}),
    ),
    row(
        "create svc clusterip, headless",
        Do("create svc clusterip s --clusterip=None", r"\Aservice/s created\n\Z"),
        Is("services/s", "spec.clusterIP", "None"),
    ),
    row(
        "create svc nodeport",
        Do("create svc nodeport s --tcp=80", r"\Aservice/s created\n\Z"),
        Is("services/s", "spec.type", "NodePort"),
    ),
    row(
        "create svc loadbalancer",
        Do("create svc loadbalancer s --tcp=80", r"\Aservice/s created\n\Z"),
        Is("services/s", "spec.type", "LoadBalancer"),
    ),
    row(
        "create svc externalname",
        Do("create svc externalname s --external-name=example.com", r"\Aservice/s created\n\Z"),
        Is("services/s", "spec.externalName", "example.com"),
    ),
    row(
        "create sa",
        Do("create sa robot", r"\Aserviceaccount/robot created\n\Z"),
        Exists("serviceaccounts/robot"),
    ),
    row(
        "create job",
        Do("create job once --image=busybox -- date -u", r"\Ajob.batch/once created\n\Z"),
        Is("jobs.batch/once", "spec.template.spec.containers.0.command", ["date", "-u"]),
        Is("jobs.batch/once", "spec.template.spec.restartPolicy", "Never"),
    ),
    row(
        "create job --from",
        Do("create job now --from=cronjob/nightly", r"\Ajob.batch/now created\n\Z"),
        Is("jobs.batch/now", "metadata.annotations", {"cronjob.kubernetes.io/instantiate": "manual"}),
        Is("jobs.batch/now", "metadata.ownerReferences.0.name", "nightly"),
        given=CRON_JOB,
    ),
    row(
        "create cronjob",
        Do(
            "create cronjob c --image=busybox --schedule='0 3 * * *' -- date",
            r"\Acronjob.batch/c created\n\Z",
        ),
        Is("cronjobs.batch/c", "spec.schedule", "0 3 * * *"),
    ),
    row(
        "create ingress",
        Do(
            "create ing site --class=none --rule='example.com/api*=web:80,tls=c' --default-backend=web:http",
            r"\Aingress.networking.k8s.io/site created\n\Z",
        ),
        Is("ingresses.networking.k8s.io/site", "spec.ingressClassName", "none"),
        Is("ingresses.networking.k8s.io/site", "spec.rules.0.http.paths.0.pathType", "Prefix"),
        Is(
            "ingresses.networking.k8s.io/site",
            "spec.rules.0.http.paths.0.backend",
            {"service": {"name": "web", "port": {"number": 80}}},
        ),
        Is("ingresses.networking.k8s.io/site", "spec.defaultBackend.service.port", {"name": "http"}),
        Is("ingresses.networking.k8s.io/site", "spec.tls.0", {"hosts": ["example.com"], "secretName": "c"}),
    ),
    row(
        "create pdb",
        Do(
            "create pdb careful --selector=app=web --min-available=50%",
            r"\Apoddisruptionbudget.policy/careful created\n\Z",
        ),
        Is("poddisruptionbudgets.policy/careful", "spec.minAvailable", "50%"),
        Is("poddisruptionbudgets.policy/careful", "spec.selector.matchLabels", {"app": "web"}),
    ),
    row(
        "create quota",
        Do("create quota q --hard=pods=5,cpu=2", r"\Aresourcequota/q created\n\Z"),
        Is("resourcequotas/q", "spec.hard", {"pods": "5", "cpu": "2"}),
    ),
    row(
        "create role",
        Do(
            "create role reader --verb=get,list --resource=pods,deployments.apps --resource-name=a",
            r"\Arole.rbac.authorization.k8s.io/reader created\n\Z",
        ),
        Is("roles.rbac.authorization.k8s.io/reader", "rules.0.verbs", ["get", "list"]),
        Is("roles.rbac.authorization.k8s.io/reader", "rules.1.apiGroups", ["apps"]),
    ),
    row(
        "create rolebinding",
        Do(
            "create rolebinding b --role=reader --user=jane --group=ops --serviceaccount={ns}:robot",
            r"\Arolebinding.rbac.authorization.k8s.io/b created\n\Z",
        ),
        Is("rolebindings.rbac.authorization.k8s.io/b", "roleRef.name", "reader"),
        Is("rolebindings.rbac.authorization.k8s.io/b", "subjects.2.kind", "ServiceAccount"),
    ),
    row(
        "create clusterrole",
        Do(
            "create clusterrole {ns} --verb=get --resource=nodes",
            r"\Aclusterrole.rbac.authorization.k8s.io/{ns} created\n\Z",
        ),
        Is("clusterroles.rbac.authorization.k8s.io/{ns}", "rules.0.resources", ["nodes"]),
        Do("create clusterrole {ns}-b --verb=get --non-resource-url=/logs", "created"),
        Do("delete clusterrole {ns} {ns}-b", "deleted"),
    ),
    row(
        "create clusterrolebinding",
        Do(
            "create clusterrolebinding {ns} --clusterrole=view --user=jane",
            r"\Aclusterrolebinding.rbac.authorization.k8s.io/{ns} created\n\Z",
        ),
        Is("clusterrolebindings.rbac.authorization.k8s.io/{ns}", "subjects.0.name", "jane"),
        Do("delete clusterrolebinding {ns}", "deleted"),
    ),
    row(
        "create priorityclass",
        Do(
            "create priorityclass {ns} --value=1000 --description=high",
            r"\Apriorityclass.scheduling.k8s.io/{ns} created\n\Z",
        ),
        Is("priorityclasses.scheduling.k8s.io/{ns}", "value", 1000),
        Do("delete priorityclass {ns}", "deleted"),
    ),
    row("create token", Do("create token default", r"\A[\w-]+\.[\w-]+\.[\w-]+\n?\Z")),
    row(
        "create by name, dry run",
        Do("create deploy d --image=nginx --dry-run=client -o yaml", r"^kind: Deployment$"),
        Do("create cm m --from-literal=a=b --dry-run=server", r"\Aconfigmap/m created \(server dry run\)\n"),
        Gone("deployments.apps/d configmaps/m"),
    ),
    row(
        "autoscale",
        Do(
            "autoscale deploy web --min=1 --max=3 --cpu-percent=80",
            r"\Ahorizontalpodautoscaler.autoscaling/web autoscaled\n\Z",
        ),
        Is("horizontalpodautoscalers.autoscaling/web", "spec.maxReplicas", 3),
        given=WEB,
    ),
)

RUN_AND_EXPOSE = (
    row(
        "run",
        Do("run p --image=nginx:1.27 --labels=app=p --env=A=b --port=80", r"\Apod/p created\n\Z"),
        Is("pods/p", "metadata.labels", {"app": "p"}),
        Is("pods/p", "spec.containers.0.env.0", {"name": "A", "value": "b"}),
        Do("run p --image=nginx", r'\(AlreadyExists\): pods "p" already exists', code=1),
        Do("run q --image=nginx --dry-run=client -o yaml", r"^    run: q$"),
        Gone("pods/q"),
    ),
    row(
        "run --expose",
        Do("run p --image=nginx --port=80 --expose", r"service/p created\npod/p created"),
        Is("services/p", "spec.selector", {"run": "p"}),
    ),
    row(
        "expose deploy",
        Do("expose deploy web --port=80 --target-port=8080 --name=front", r"\Aservice/front exposed\n\Z"),
        Is("services/front", "spec.selector", {"app": "web"}),
        Is("services/front", "spec.ports.0.targetPort", 8080),
        Do("expose deploy web --type=NodePort", r"\Aservice/web exposed\n\Z"),
        Is("services/web", "spec.type", "NodePort"),
        Is("services/web", "spec.ports.0.port", 8080),
        given=WEB,
    ),
    row(
        "expose pod, svc",
        Do("expose pod alone --port=80 --cluster-ip=None", r"\Aservice/alone exposed\n\Z"),
        Is("services/alone", "spec.clusterIP", "None"),
        Do("expose svc alone --port=81 --name=other", r"\Aservice/other exposed\n\Z"),
        Is("services/other", "spec.selector", {"app": "alone"}),
        given=POD,
    ),
    row(
        "expose with a wrong port",
        Do("expose pod alone --port=99999", r"Invalid value: 99999: must be between 1 and 65535", code=1),
        given=POD,
    ),
)

DELETE = (
    row(
        "delete",
        Do("delete cm a", r'\Aconfigmap "a" deleted'),
        Gone("configmaps/a"),
        Exists("configmaps/b"),
        Do("delete cm a", r'\AError from server \(NotFound\): configmaps "a" not found\n\Z', code=1),
        Do("delete cm a --ignore-not-found", r"\A\Z|not found|^$"),
        Do("delete cm/b cm/c", r'configmap "b" deleted.*\nconfigmap "c" deleted'),
        Gone("configmaps/b configmaps/c"),
        given=THREE,
    ),
    row(
        "delete -l",
        Do("delete cm -l app=x", r'configmap "a" deleted.*\nconfigmap "b" deleted', hidden='"c"'),
        Gone("configmaps/a configmaps/b"),
        Exists("configmaps/c"),
        Do("delete cm -l app=x", r"\ANo resources found\n"),
        given=THREE,
    ),
    row(
        "delete --all",
        Do("delete svc --all", r'\Aservice "web" deleted'),
        Gone("services/web"),
        given=SERVICE,
    ),
    row(
        "delete --field-selector",
        Do("delete cm --field-selector metadata.name=b", r'\Aconfigmap "b" deleted', hidden='"a"'),
        Exists("configmaps/a"),
        given=THREE,
    ),
    row(
        "delete -f",
        File("cm.yaml", THREE),
        Do(
            "delete -f {dir}/cm.yaml",
            r'configmap "a" deleted.*\nconfigmap "b" deleted.*\nconfigmap "c" deleted',
        ),
        Gone("configmaps/a configmaps/b configmaps/c"),
        given=THREE,
    ),
    row(
        "delete --dry-run",
        Do("delete cm a --dry-run=client", r'configmap "a" deleted.*\(dry run\)'),
        Do("delete cm a --dry-run=server", r'configmap "a" deleted.*\(server dry run\)'),
        Exists("configmaps/a"),
        given=THREE,
    ),
    row(
        "delete -o name",
        Do("delete cm a -o name", r"\Aconfigmap/a\n\Z"),
        given=THREE,
    ),
    row(
        "delete --raw",
        Do("delete --raw /api/v1/namespaces/{ns}/configmaps/a", r'"status":"Success"'),
        Gone("configmaps/a"),
        given=THREE,
    ),
    row(
        "delete --wait with a finalizer",
        Do('patch cm a --type=merge -p \'{"metadata":{"finalizers":["example.com/hold"]}}\''),
        While(
            "delete cm a",
            r'configmap "a" deleted',
            (
                Exists("configmaps/a"),
                Do('patch cm a --type=merge -p \'{"metadata":{"finalizers":null}}\'', "patched"),
                Gone("configmaps/a"),
            ),
            "",
            code=0,
        ),
        given=THREE,
    ),
    row(
        "delete --wait=false with a finalizer",
        Do('patch cm a --type=merge -p \'{"metadata":{"finalizers":["example.com/hold"]}}\''),
        Do("delete cm a --wait=false", r'configmap "a" deleted'),
        Is("configmaps/a", "metadata.finalizers", ["example.com/hold"]),
        Do("get cm a -o jsonpath='{.metadata.deletionTimestamp}'", r"^20\d\d-"),
        Do('patch cm a --type=json -p \'[{"op":"remove","path":"/metadata/finalizers"}]\'', "patched"),
        Gone("configmaps/a"),
        given=THREE,
    ),
    row(
        "delete with a timeout",
        Do('patch cm a --type=merge -p \'{"metadata":{"finalizers":["example.com/hold"]}}\''),
        Do("delete cm a --timeout=1s", r"timed out waiting for the condition on configmaps/a", code=1),
        Do('patch cm a --type=merge -p \'{"metadata":{"finalizers":null}}\'', "patched"),
        given=THREE,
    ),
    row(
        "delete deploy, background",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do("delete deploy web --cascade=background", r'deployment.apps "web" deleted'),
        Do("wait rs,pods -l app=web --for=delete --timeout=20s"),
        Do("get rs,pods -l app=web", "No resources found"),
        given=WEB,
    ),
    row(
        "delete deploy, foreground",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do("delete deploy web --cascade=foreground", r'deployment.apps "web" deleted'),
        Do("get deploy,rs,pods -l app=web", "No resources found"),
        given=WEB,
    ),
    row(
        "delete deploy, orphan",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do("delete deploy web --cascade=orphan", r'deployment.apps "web" deleted'),
        Gone("deployments.apps/web"),
        Do("get rs -l app=web -o jsonpath='{.items[*].metadata.ownerReferences}'", r"\A\Z"),
        Do("get rs -l app=web --no-headers", r"\Aweb-\w+ +2 +2 +2 "),
        Do("delete rs -l app=web", "deleted"),
        given=WEB,
    ),
    row(
        "delete pod",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("delete pod alone --grace-period=1", r'\Apod "alone" deleted'),
        Gone("pods/alone"),
        given=POD,
    ),
    row(
        "delete pod --now",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("delete pod alone --now", r'pod "alone" deleted'),
        Gone("pods/alone"),
        given=POD,
    ),
    row(
        "delete pod --force",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do(
            "delete pod alone --grace-period=0 --force",
            r'Warning: Immediate deletion does not wait ... pod "alone" force deleted',
        ),
        Gone("pods/alone"),
        given=POD,
    ),
    row(
        "delete ns with its content",
        Do("create -f -", stdin=_typed("Namespace", "name: {ns}-full")),
        Do("create -n {ns}-full -f -", stdin=CONFIG_MAP),
        Do("delete ns {ns}-full", r'namespace "{ns}-full" deleted'),
        Gone("namespaces/{ns}-full"),
        Do("get cm -n {ns}-full", "No resources found in {ns}-full namespace."),
    ),
    row(
        "delete of what is protected",
        Do(
            "delete ns default",
            r'"default" is forbidden: this namespace may not be deleted',
            code=1,
        ),
        Do("delete ns kube-system", r"is forbidden: this namespace may not be deleted", code=1),
    ),
)


@pytest.mark.parametrize(
    ("binary", "row"), cases((*CREATE_FROM_FILES, *CREATE_BY_NAME, *RUN_AND_EXPOSE, *DELETE))
)
def test_creating(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
