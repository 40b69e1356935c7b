"""One object of each stored kind, applied, printed, described and deleted by kubectl."""

from pathlib import Path

import pytest

from .conftest import Server
from .kubectl import FOUND, Kubectl

pytestmark = pytest.mark.skipif(not FOUND, reason="kubectl is not installed")

TEMPLATE = """
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
"""
MANIFESTS = {
    "rc": f"""
apiVersion: v1
kind: ReplicationController
metadata: {{name: web}}
spec:
  template: {TEMPLATE}
""",
    "pvc": """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: web}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
""",
    "quota": """
apiVersion: v1
kind: ResourceQuota
metadata: {name: web}
spec: {hard: {pods: "4"}}
""",
    "limits": """
apiVersion: v1
kind: LimitRange
metadata: {name: web}
spec: {limits: [{type: Container, max: {cpu: "2"}}]}
""",
    "sts": f"""
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template: {TEMPLATE}
""",
    "ds": f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template: {TEMPLATE}
""",
    "controllerrevision": """
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: web}
revision: 1
data: {spec: {template: {}}}
""",
    "job": """
apiVersion: batch/v1
kind: Job
metadata: {name: web}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: perl}]}}}
""",
    "cj": """
apiVersion: batch/v1
kind: CronJob
metadata: {name: web}
spec:
  schedule: "*/5 * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: perl}]}}}}
""",
    "hpa": """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
""",
    "pdb": """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
""",
    "ing": """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: example.org
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
""",
    "ingressclass": """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: web}
spec: {controller: example.org/ingress}
""",
    "cnp": """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: web}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
""",
    "role": """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
""",
    "clusterrole": """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: web}
rules: [{nonResourceURLs: [/healthz], verbs: [get]}]
""",
    "rolebinding": """
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}
subjects: [{kind: User, name: ada, apiGroup: rbac.authorization.k8s.io}]
""",
    "clusterrolebinding": """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: web}
""",
    "pc": """
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: web}
value: 5
""",
    "sc": """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: web}
provisioner: example.org/disk
""",
}
# What `kubectl get NAME -o wide` prints of the object, without its age.
PRINTED = {
    "rc": "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR | web 1 0 0 c nginx app=web",
    "pvc": "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE VOLUMEMODE | "
    "web Pending <unset> Filesystem",
    "quota": "NAME REQUEST LIMIT AGE | web",
    "limits": "NAME CREATED AT | web",
    "sts": "NAME READY AGE CONTAINERS IMAGES | web 0/1 c nginx",
    "ds": "NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE SELECTOR AGE CONTAINERS IMAGES SELECTOR | "
    "web 0 0 0 0 0 <none> c nginx app=web",
    "controllerrevision": "NAME CONTROLLER REVISION AGE | web <none> 1",
    "cj": "NAME SCHEDULE TIMEZONE SUSPEND ACTIVE LAST SCHEDULE AGE CONTAINERS IMAGES SELECTOR | "
    "web */5 * * * * <none> False 0 <none> c perl <none>",
    "hpa": "NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE | "
    "web Deployment/web cpu: <unknown>/80% 1 3 0",
    "pdb": "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE | web 1 N/A 0",
    "ing": "NAME CLASS HOSTS ADDRESS PORTS AGE | web <none> example.org 80",
    "ingressclass": "NAME CONTROLLER PARAMETERS AGE | web example.org/ingress <none>",
    "cnp": "NAME TIER PRIORITY AGE | web Admin 10",
    "role": "NAME CREATED AT | web",
    "clusterrole": "NAME CREATED AT | web",
    "rolebinding": "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS | web Role/web ada",
    "clusterrolebinding": "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS | web ClusterRole/web",
    "pc": "NAME VALUE GLOBAL-DEFAULT AGE PREEMPTIONPOLICY | web 5 false PreemptLowerPriority",
    "sc": "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE | "
    "web example.org/disk Delete Immediate false",
}
# kubectl sends a patch that changes nothing: the selector of a budget is replaced as a whole, and the server
# completes the limits.
ALWAYS_PATCHED = {"limitrange/web configured", "poddisruptionbudget.policy/web configured"}


@pytest.fixture
def kubectl(server: Server, tmp_path: Path) -> Kubectl:
    return Kubectl(FOUND[-1], server, tmp_path)


def words(table: str) -> str:
    """The words of a table, without ages, times of creation, and the kinds in front of names."""
    lines = [line.split() for line in table.strip().splitlines()]
    kept = [[word for word in line if not (word[0].isdigit() and word[-1] in "sZ")] for line in lines]
    return " | ".join(" ".join([line[0].rpartition("/")[2], *line[1:]]) for line in kept)


async def test_every_kind_is_applied_printed_described_and_deleted(kubectl: Kubectl):
    manifest = "\n---\n".join(MANIFESTS.values())
    assert (await kubectl.run("apply", "-f", "-", text=manifest)).count(" created") == len(MANIFESTS)
    again = await kubectl.run("apply", "-f", "-", text=manifest)
    assert {line for line in again.splitlines() if not line.endswith(" unchanged")} == ALWAYS_PATCHED
    tables = (await kubectl.run("get", ",".join(PRINTED), "-o", "wide")).split("\n\n")
    assert dict(zip(PRINTED, map(words, tables), strict=True)) == PRINTED
    job = words(await kubectl.run("get", "job"))
    assert job.startswith("NAME STATUS COMPLETIONS DURATION AGE | web Running 0/1")
    described = await kubectl.run("describe", ",".join(MANIFESTS), "web")
    assert described.count("web\n") >= len(MANIFESTS)
    everything = await kubectl.run("get", "all", "-o", "name")
    for kind in ("statefulset.apps", "daemonset.apps", "job.batch", "cronjob.batch", "replicationcontroller"):
        assert f"{kind}/web" in everything
    assert (await kubectl.run("delete", "-f", "-", text=manifest)).count(" deleted") == len(MANIFESTS)
