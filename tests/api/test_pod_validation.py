from typing import Any

import pytest

from emu.api.errors import BadRequestError, ConflictError
from emu.api.options import WriteOptions
from emu.api.registry import Registry
from emu.api.subresources import bind

from .conftest import pod
from .refusals import (
    BAD_IP,
    LABEL,
    LABEL_VALUE,
    PORT_RANGE,
    QUALIFIED,
    SUBDOMAIN,
    Table,
    create,
    refused,
    replace,
    rows,
    update,
)

FIRST = "spec.containers[0]"
TYPES = "may not specify more than 1 volume type"
HANDLERS = "may not specify more than 1 handler type"
NOT_INIT = "may not be set for init containers without restartPolicy=Always"
ONE_OF_VARIABLES = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
VARIABLE_FIELDS = (
    '"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", '
    '"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'
)


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "nginx", **fields}]}


def init(**fields: Any) -> dict[str, Any]:
    return {"initContainers": [{"name": "i", "image": "nginx", **fields}]}


def port(**fields: Any) -> dict[str, Any]:
    return container(ports=[{"containerPort": 80, **fields}])


def variable(**source: Any) -> dict[str, Any]:
    return container(env=[{"name": "A", "valueFrom": source}])


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def mounts(*given: dict[str, Any]) -> dict[str, Any]:
    return {**container(volumeMounts=list(given)), **volume(emptyDir={})}


def probe(kind: str = "livenessProbe", **fields: Any) -> dict[str, Any]:
    return container(**{kind: {"tcpSocket": {"port": 80}, **fields}})


def resources(limits: dict[str, Any], requests: dict[str, Any]) -> dict[str, Any]:
    return container(resources={"limits": limits, "requests": requests})


def node_terms(*expressions: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


TERMS = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


def spread(**fields: Any) -> dict[str, Any]:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", **fields}
    return {"topologySpreadConstraints": [constraint]}


REFUSED: Table = [
    # containers
    ("containers", {"containers": []}, ["spec.containers: Required value"]),
    ("container name", container(name=""), [f"{FIRST}.name: Required value"]),
    (
        "container name form",
        container(name="a.b"),
        [f'{FIRST}.name: Invalid value: "a.b": must not contain dots'],
    ),
    (
        "container names are unique",
        {"containers": [{"name": "a", "image": "x"}] * 2},
        ['spec.containers[1].name: Duplicate value: "a"'],
    ),
    (
        "init containers share the names",
        init(name="c"),
        ['spec.initContainers[0].name: Duplicate value: "c"'],
    ),
    ("image", container(image=""), [f"{FIRST}.image: Required value"]),
    (
        "image with spaces",
        container(image=" nginx"),
        [f'{FIRST}.image: Invalid value: " nginx": must not have leading or trailing whitespace'],
    ),
    (
        "pull policy",
        container(imagePullPolicy="Sometimes"),
        [
            f'{FIRST}.imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"IfNotPresent", "Never"'
        ],
    ),
    (
        "container restart policy",
        container(restartPolicy="Sometimes"),
        [
            f'{FIRST}.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", '
            '"OnFailure"'
        ],
    ),
    (
        "restart rules need a policy",
        container(restartPolicyRules=[{"action": "Restart"}]),
        [f"{FIRST}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
    ),
    (
        "handlers of an init container",
        init(livenessProbe={"tcpSocket": {"port": 80}}, lifecycle={}),
        [
            f"spec.initContainers[0].lifecycle: Forbidden: {NOT_INIT}",
            f"spec.initContainers[0].livenessProbe: Forbidden: {NOT_INIT}",
        ],
    ),
    (
        "handlers of a sidecar are judged",
        init(restartPolicy="Always", livenessProbe={}),
        ["spec.initContainers[0].livenessProbe: Required value: must specify a handler type"],
    ),
    (
        "ephemeral containers at creation",
        {"ephemeralContainers": [{"name": "e", "image": "x"}]},
        ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    ),
    # ports
    ("container port", port(containerPort=0), [f"{FIRST}.ports[0].containerPort: Required value"]),
    (
        "container port range",
        port(containerPort=70000, hostPort=70000),
        [
            f"{FIRST}.ports[0].containerPort: Invalid value: 70000: {PORT_RANGE}",
            f"{FIRST}.ports[0].hostPort: Invalid value: 70000: {PORT_RANGE}",
        ],
    ),
    (
        "port name",
        port(name="Web"),
        [
            f'{FIRST}.ports[0].name: Invalid value: "Web": must contain only alpha-numeric characters (a-z, '
            "0-9), and hyphens (-)"
        ],
    ),
    (
        "port names are unique in a container",
        container(ports=[{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
        [f'{FIRST}.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "port protocol",
        port(protocol="tcp"),
        [f'{FIRST}.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        "host ports are unique",
        {
            "containers": [
                {"name": name, "image": "x", "ports": [{"containerPort": 1, "hostPort": 8080}]}
                for name in ("a", "b")
            ]
        },
        ['spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//8080"'],
    ),
    (
        "host network",
        {"hostNetwork": True, **port(hostPort=8080)},
        [
            f"{FIRST}.ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` "
            f"is "
            "true"
        ],
    ),
    # environment
    ("variable name", container(env=[{"name": ""}]), [f"{FIRST}.env[0].name: Required value"]),
    (
        "variable name form",
        container(env=[{"name": "A=B"}]),
        [
            f'{FIRST}.env[0].name: Invalid value: "A=B": a valid environment variable name must consist only '
            "of printable ASCII characters other than '='"
        ],
    ),
    ("no source", variable(), [f'{FIRST}.env[0].valueFrom: Invalid value: "": {ONE_OF_VARIABLES}']),
    (
        "value and source",
        container(
            env=[{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
        ),
        [f'{FIRST}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
    ),
    (
        "two sources",
        variable(fieldRef={"fieldPath": "metadata.uid"}, secretKeyRef={"name": "s", "key": "k"}),
        [
            f'{FIRST}.env[0].valueFrom: Invalid value: "": may not have more than one field specified at a '
            f"time"
        ],
    ),
    (
        "field that is not there",
        variable(fieldRef={"fieldPath": "metadata.nothing"}),
        [
            f'{FIRST}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.nothing": error '
            f"converting "
            "fieldPath: field label not supported: metadata.nothing"
        ],
    ),
    (
        "field that a variable cannot have",
        variable(fieldRef={"fieldPath": "status.phase"}),
        [
            f'{FIRST}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported '
            f"values: {VARIABLE_FIELDS}"
        ],
    ),
    (
        "resource that is not there",
        variable(resourceFieldRef={"resource": "limits.disk"}),
        [
            f'{FIRST}.env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.disk": '
            f"supported "
            'values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", '
            '"requests.ephemeral-storage", "requests.memory"'
        ],
    ),
    (
        "divisor",
        variable(resourceFieldRef={"resource": "limits.cpu", "divisor": "2"}),
        [
            f'{FIRST}.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only '
            f"divisor's "
            "values 1m and 1 are supported with the cpu resource"
        ],
    ),
    (
        "key reference",
        variable(configMapKeyRef={"name": "A", "key": "a b"}),
        [
            f'{FIRST}.env[0].valueFrom.configMapKeyRef.name: Invalid value: "A": {SUBDOMAIN}',
            f'{FIRST}.env[0].valueFrom.configMapKeyRef.key: Invalid value: "a b": a valid config key must '
            "consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
            "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    ),
    (
        "envFrom",
        container(envFrom=[{}, {"secretRef": {"name": ""}}]),
        [
            f'{FIRST}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
            f"{FIRST}.envFrom[1].secretRef.name: Required value",
        ],
    ),
    # volumes
    ("volume name", {"volumes": [{"emptyDir": {}}]}, ["spec.volumes[0].name: Required value"]),
    (
        "volume names are unique",
        {"volumes": [{"name": "v", "emptyDir": {}}] * 2},
        ['spec.volumes[1].name: Duplicate value: "v"'],
    ),
    (
        "one source",
        volume(emptyDir={}, hostPath={"path": "/x"}, nfs={}),
        [f"spec.volumes[0].hostPath: Forbidden: {TYPES}", f"spec.volumes[0].nfs: Forbidden: {TYPES}"],
    ),
    (
        "host path",
        volume(hostPath={"path": "/a/../b", "type": "Dir"}),
        [
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            'spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", '
            '"CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
        ],
    ),
    (
        "secret",
        volume(secret={"defaultMode": 512, "items": [{"key": "", "path": "/x"}]}),
        [
            "spec.volumes[0].secret.secretName: Required value",
            "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 "
            "(octal), both inclusive",
            "spec.volumes[0].secret.items[0].key: Required value",
            'spec.volumes[0].secret.items[0].path: Invalid value: "/x": must be a relative path',
        ],
    ),
    ("config map", volume(configMap={}), ["spec.volumes[0].configMap.name: Required value"]),
    (
        "claim",
        volume(persistentVolumeClaim={}),
        ["spec.volumes[0].persistentVolumeClaim.claimName: Required value"],
    ),
    (
        "downward API",
        volume(downwardAPI={"items": [{"path": "..x"}]}),
        [
            "spec.volumes[0].downwardAPI.path: Invalid value: \"..x\": must not start with '..'",
            "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
        ],
    ),
    (
        "mount of a volume that is not there",
        container(volumeMounts=[{"name": "v", "mountPath": "/x"}]),
        [f'{FIRST}.volumeMounts[0].name: Not found: "v"'],
    ),
    ("mount path", mounts({"name": "v"}), [f"{FIRST}.volumeMounts[0].mountPath: Required value"]),
    (
        "mount paths are unique",
        mounts({"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}),
        [f'{FIRST}.volumeMounts[1].mountPath: Invalid value: "/x": must be unique'],
    ),
    (
        "sub-paths",
        mounts({"name": "v", "mountPath": "/x", "subPath": "/a", "subPathExpr": "b"}),
        [
            f'{FIRST}.volumeMounts.subPath: Invalid value: "/a": must be a relative path',
            f'{FIRST}.volumeMounts[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually '
            "exclusive",
        ],
    ),
    # handlers
    (
        "no handler",
        container(livenessProbe={}),
        [f"{FIRST}.livenessProbe: Required value: must specify a handler type"],
    ),
    (
        "two handlers",
        probe(exec={"command": ["x"]}, grpc={"port": 1}),
        [
            f"{FIRST}.livenessProbe.tcpSocket: Forbidden: {HANDLERS}",
            f"{FIRST}.livenessProbe.grpc: Forbidden: {HANDLERS}",
        ],
    ),
    (
        "probe port",
        container(readinessProbe={"httpGet": {"port": "no_name", "scheme": "FTP"}}),
        [
            f'{FIRST}.readinessProbe.httpGet.port: Invalid value: "no_name": must contain only alpha-numeric '
            "characters (a-z, 0-9), and hyphens (-)",
            f'{FIRST}.readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", '
            '"HTTPS"',
        ],
    ),
    (
        "probe numbers",
        probe(initialDelaySeconds=-1, successThreshold=2, terminationGracePeriodSeconds=0),
        [
            f"{FIRST}.livenessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to "
            f"0",
            f"{FIRST}.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
            f"{FIRST}.livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    ),
    (
        "grace period of a readiness probe",
        probe("readinessProbe", terminationGracePeriodSeconds=5),
        [
            f"{FIRST}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for "
            "readinessProbes"
        ],
    ),
    (
        "lifecycle",
        container(lifecycle={"preStop": {"exec": {}}, "postStart": {"sleep": {"seconds": 31}}}),
        [
            f"{FIRST}.lifecycle.postStart.sleep: Invalid value: 31: must be non-negative and less than "
            "terminationGracePeriodSeconds (30)",
            f"{FIRST}.lifecycle.preStop.exec.command: Required value",
        ],
    ),
    # resources
    (
        "requests above limits",
        resources({"cpu": "500m", "memory": "1Gi"}, {"cpu": 1, "memory": "2048Mi"}),
        [
            f'{FIRST}.resources.requests: Invalid value: "1": must be less than or equal to cpu limit of '
            f"500m",
            f'{FIRST}.resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit '
            f"of "
            "1Gi",
        ],
    ),
    (
        "negative amount",
        resources({}, {"cpu": "-1"}),
        [f'{FIRST}.resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
    ),
    (
        "resource that is not there",
        resources({"gpu": 1}, {}),
        [
            f'{FIRST}.resources.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully '
            "qualified",
            f'{FIRST}.resources.limits[gpu]: Invalid value: "gpu": must be a standard resource for '
            f"containers",
            f'{FIRST}.resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or '
            f"fully "
            "qualified",
            f'{FIRST}.resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for '
            f"containers",
        ],
    ),
    (
        "extended resource",
        resources({"a.b/gpu": 2}, {"a.b/gpu": 1}),
        [f'{FIRST}.resources.requests: Invalid value: "1": must be equal to a.b/gpu limit of 2'],
    ),
    # scheduling
    (
        "node selector",
        {"nodeSelector": {"a": "b c"}},
        [f'spec.nodeSelector: Invalid value: "b c": {LABEL_VALUE}'],
    ),
    (
        "tolerations",
        {
            "tolerations": [
                {"operator": "Equal"},
                {"key": "a", "operator": "Exists", "value": "b"},
                {"key": "a", "operator": "In"},
                {"key": "a", "effect": "Never"},
                {"key": "a", "tolerationSeconds": 1},
            ]
        },
        [
            'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is '
            "empty, "
            'which means "match all values and all keys"',
            'spec.tolerations[1].operator: Invalid value: "b": value must be empty when `operator` is '
            "'Exists'",
            'spec.tolerations[2].operator: Unsupported value: "In": supported values: "Equal", "Exists"',
            'spec.tolerations[3].effect: Unsupported value: "Never": supported values: "NoSchedule", '
            '"PreferNoSchedule", "NoExecute"',
            "spec.tolerations[4].effect: Invalid value: \"\": effect must be 'NoExecute' when "
            "`tolerationSeconds` is set",
        ],
    ),
    (
        "node affinity",
        node_terms({"key": "a", "operator": "Gt"}, {"key": "a", "operator": "Is"}),
        [
            f"{TERMS}[0].matchExpressions[0].values: Required value: must be specified single value when "
            "`operator` is 'Lt' or 'Gt'",
            f'{TERMS}[0].matchExpressions[1].operator: Invalid value: "Is": not a valid selector operator',
        ],
    ),
    (
        "node affinity without terms",
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}},
        [f"{TERMS}: Required value: must have at least one node selector term"],
    ),
    (
        "pod affinity",
        {
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 101, "podAffinityTerm": {"topologyKey": "zone"}}
                    ],
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a b"}],
                }
            }
        },
        [
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: "
            f'Invalid value: "a b": name part {QUALIFIED}',
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: "
            "Invalid "
            "value: 101: must be in the range 1-100",
        ],
    ),
    (
        "spreading",
        spread(maxSkew=0, topologyKey="", whenUnsatisfiable="Maybe"),
        [
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
            'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported '
            "values: "
            '"DoNotSchedule", "ScheduleAnyway"',
        ],
    ),
    (
        "spreading twice",
        {"topologySpreadConstraints": spread()["topologySpreadConstraints"] * 2},
        [
            "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "
            '"{zone, DoNotSchedule}"'
        ],
    ),
    (
        "least domains",
        spread(minDomains=0, whenUnsatisfiable="ScheduleAnyway"),
        [
            "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if "
            "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
        ],
    ),
    (
        "scheduling gates",
        {"schedulingGates": [{"name": "a"}, {"name": "a"}], "nodeName": "n"},
        [
            'spec.schedulingGates[1]: Duplicate value: "a"',
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ],
    ),
    # the rest
    (
        "restart policy",
        {"restartPolicy": "Sometimes"},
        [
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", '
            '"Never"'
        ],
    ),
    (
        "DNS policy",
        {"dnsPolicy": "Cluster"},
        [
            'spec.dnsPolicy: Unsupported value: "Cluster": supported values: "ClusterFirstWithHostNet", '
            '"ClusterFirst", "Default", "None"'
        ],
    ),
    (
        "DNS policy None",
        {"dnsPolicy": "None"},
        ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    ),
    (
        "DNS policy None without servers",
        {"dnsPolicy": "None", "dnsConfig": {}},
        [
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when "
            "`dnsPolicy` is None"
        ],
    ),
    (
        "DNS configuration",
        {"dnsConfig": {"nameservers": ["1.1.1.1"] * 3 + ["x"], "searches": ["A"], "options": [{}]}},
        [
            'spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","x"]: must not have '
            "more than 3 nameservers",
            f'spec.dnsConfig.nameservers[3]: Invalid value: "x": {BAD_IP}',
            'spec.dnsConfig.searches[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of '
            "lower case alphanumeric characters, '_', '-' or '.', and must start and end with an "
            "alphanumeric "
            "character (e.g. 'example.com', regex used for validation is "
            r"'_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
            "spec.dnsConfig.options[0]: Required value: must not be empty",
        ],
    ),
    (
        "33 search paths",
        {"dnsConfig": {"searches": ["a"] * 33}},
        [
            f"spec.dnsConfig.searches: Invalid value: [{','.join(['@a@'] * 33)}]: must not have more than 32 "
            "search paths".replace("@", '"')
        ],
    ),
    (
        "host aliases",
        {"hostAliases": [{"ip": "x", "hostnames": ["A"]}]},
        [
            f'spec.hostAliases[0].ip: Invalid value: "x": {BAD_IP}',
            f'spec.hostAliases[0].hostnames[0]: Invalid value: "A": {SUBDOMAIN}',
        ],
    ),
    (
        "host name and subdomain",
        {"hostname": "A", "subdomain": "a.b"},
        [
            f'spec.hostname: Invalid value: "A": {LABEL}',
            'spec.subdomain: Invalid value: "a.b": must not contain dots',
        ],
    ),
    (
        "names of others",
        {"serviceAccountName": "A", "nodeName": "B", "priorityClassName": "C", "runtimeClassName": "D"},
        [
            f'spec.serviceAccountName: Invalid value: "A": {SUBDOMAIN}',
            f'spec.nodeName: Invalid value: "B": {SUBDOMAIN}',
            f'spec.priorityClassName: Invalid value: "C": {SUBDOMAIN}',
            f'spec.runtimeClassName: Invalid value: "D": {SUBDOMAIN}',
        ],
    ),
    (
        "deadline",
        {"activeDeadlineSeconds": 0},
        ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    ),
    (
        "readiness gates",
        {"readinessGates": [{"conditionType": "a b"}]},
        [f'spec.readinessGates[0].conditionType: Invalid value: "a b": name part {QUALIFIED}'],
    ),
    (
        "user numbers",
        {"securityContext": {"runAsUser": -1}},
        ["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive"],
    ),
    (
        "host users",
        {"hostUsers": False, "hostNetwork": True},
        ["spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"],
    ),
    (
        "overhead",
        {"overhead": {"cpu": "-1"}},
        ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
    ),
    (
        "operating system",
        {"os": {"name": "plan9"}},
        ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"'],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(REFUSED))
def test_pods_that_are_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, "pods", pod(**given))) == errors


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(
            init(name="sidecar", restartPolicy="Always", livenessProbe={"grpc": {"port": 1}}), id="sidecar"
        ),
        pytest.param(port(name="http-1", protocol="SCTP", hostPort=8080), id="port"),
        pytest.param({"hostNetwork": True, **port()}, id="host network gives the host port"),
        pytest.param(variable(fieldRef={"fieldPath": "metadata.labels['a/b']"}), id="one label"),
        pytest.param(variable(fieldRef={"fieldPath": "status.podIP"}), id="pod IP"),
        pytest.param(container(env=[{"name": "1 odd.name"}]), id="any printable variable name"),
        pytest.param(mounts({"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/y"}), id="mounts"),
        pytest.param(
            volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.labels"}}]}),
            id="labels as a file",
        ),
        pytest.param(
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["_a.b.", "."]}},
            id="DNS",
        ),
        pytest.param(node_terms({"key": "a", "operator": "In", "values": ["b"]}), id="affinity"),
        pytest.param(spread(minDomains=2, labelSelector={}, matchLabelKeys=["a"]), id="spreading"),
        pytest.param({"tolerations": [{"operator": "Exists"}]}, id="tolerate all"),
        pytest.param(container(restartPolicy="OnFailure"), id="a container's own restart policy"),
        pytest.param({"restartPolicy": "", "dnsPolicy": ""}, id="empty is unset"),
    ],
)
def test_pods_that_are_taken(registry: Registry, given: dict[str, Any]):
    spec = create(registry, "pods", pod(**given))["spec"]
    assert spec["restartPolicy"] == "Always"


def test_quantities_are_stored_in_one_form_and_limits_are_requested(registry: Registry):
    given = resources({"cpu": 0.5, "memory": "1024Mi"}, {"cpu": "0.1"})
    made = create(registry, "pods", pod(**given))
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "100m", "memory": "1Gi"},
    }
    assert made["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("quantity", "why"),
    [
        ("1 Gi", "quantities must match the regular expression"),
        ("1KB", "quantities must match"),
        ("1e", "suffix"),
        ("1.1.1", "numeric part"),
    ],
)
def test_no_quantity_is_a_400(registry: Registry, quantity: str, why: str):
    with pytest.raises(BadRequestError, match=why):
        create(registry, "pods", pod(**resources({}, {"memory": quantity})))


@pytest.mark.parametrize(
    ("given", "quality"),
    [
        (resources({}, {}), "BestEffort"),
        (resources({"cpu": "1", "memory": "1Gi"}, {}), "Guaranteed"),
        (resources({"cpu": "1", "memory": "1Gi"}, {"memory": "1024Mi"}), "Guaranteed"),
        (resources({"cpu": "1"}, {}), "Burstable"),
        (resources({}, {"cpu": "0"}), "BestEffort"),
        (resources({"ephemeral-storage": "1"}, {}), "BestEffort"),
    ],
)
def test_quality_of_service(registry: Registry, given: dict[str, Any], quality: str):
    assert create(registry, "pods", pod(**given))["status"]["qosClass"] == quality


# --- updates ---

CHANGEABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def test_what_may_change(registry: Registry):
    create(registry, "pods", pod(activeDeadlineSeconds=10))
    made = update(registry, "pods", "web", **container(image="other"), activeDeadlineSeconds=5)["spec"]
    assert (made["containers"][0]["image"], made["activeDeadlineSeconds"]) == ("other", 5)
    more = [*made["tolerations"], {"key": "a", "operator": "Exists"}]
    more[0] = {**more[0], "tolerationSeconds": 1}
    assert update(registry, "pods", "web", tolerations=more)["spec"]["tolerations"] == more


def test_the_rest_is_for_good_and_the_difference_is_told(registry: Registry):
    create(registry, "pods", pod(hostname="a"))
    assert refused(lambda: update(registry, "pods", "web", hostname="b")) == [
        f"spec: Forbidden: {CHANGEABLE}\n"
        '  core.PodSpec{\n- \tHostname: "a",\n+ \tHostname: "b",\n  \t... // 12 identical fields\n  }\n'
    ]
    [error] = refused(lambda: update(registry, "pods", "web", nodeName="n"))
    assert '+ \tNodeName: "n",' in error


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        pytest.param(
            {"containers": [{"name": "c", "image": "x"}, {"name": "d", "image": "x"}]},
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
            id="containers",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 11},
            ["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"],
            id="deadline later",
        ),
        pytest.param(
            {"activeDeadlineSeconds": None},
            [
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to "
                "nil value"
            ],
            id="deadline lifted",
        ),
        pytest.param(
            {"tolerations": [{"key": "other", "operator": "Exists"}]},
            [
                "spec.tolerations: Forbidden: existing toleration can not be modified except its "
                "tolerationSeconds"
            ],
            id="tolerations",
        ),
        pytest.param(
            {"schedulingGates": [{"name": "b"}]},
            [
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling "
                "gate 'b'"
            ],
            id="gates",
        ),
    ],
)
def test_updates_that_are_refused(registry: Registry, change: dict[str, Any], errors: list[str]):
    tolerations = [{"key": "mine", "operator": "Exists"}]
    create(registry, "pods", pod(activeDeadlineSeconds=10, tolerations=tolerations))
    assert refused(lambda: update(registry, "pods", "web", **change)) == errors


def test_a_gated_pod_may_be_narrowed_to_fewer_nodes(registry: Registry):
    gated = {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}}
    create(registry, "pods", pod(**gated))
    update(registry, "pods", "web", nodeSelector={"a": "b", "c": "d"})
    why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    assert refused(lambda: update(registry, "pods", "web", nodeSelector={"a": "x"})) == [
        f'spec.nodeSelector: Invalid value: {{"a":"x"}}: {why}'
    ]
    terms = node_terms({"key": "a", "operator": "Exists"})
    update(registry, "pods", "web", **terms)
    more = node_terms({"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"})
    update(registry, "pods", "web", **more)
    [error] = refused(lambda: update(registry, "pods", "web", **terms))
    assert error.endswith("only additions are allowed (no mutations or deletions)")
    update(registry, "pods", "web", schedulingGates=None)
    [error] = refused(lambda: update(registry, "pods", "web", nodeSelector={"a": "b"}))
    assert error.startswith("spec: Forbidden")


def test_addresses_in_a_status(registry: Registry):
    create(registry, "pods", pod())
    status = {"podIPs": [{"ip": "x"}], "hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}]}
    assert refused(lambda: replace(registry, "pods", {**pod(), "status": status}, "status")) == [
        f'status.podIPs[0]: Invalid value: "x": {BAD_IP}',
        'status.hostIPs[0].ip: Invalid value: "1.1.1.2": must be equal to `hostIP`',
    ]


def to_node(registry: Registry, name: str = "n", **binding: Any) -> None:
    bind(registry, "default", "web", {"target": {"kind": "Node", "name": name}, **binding}, WriteOptions())


def test_bindings(registry: Registry):
    create(registry, "pods", pod(schedulingGates=[{"name": "g"}]))
    assert refused(lambda: to_node(registry, target={"kind": "Pod"})) == [
        'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"',
        "target.name: Required value",
    ]
    with pytest.raises(BadRequestError, match="name in URL does not match name in Binding object"):
        to_node(registry, metadata={"name": "other"})
    conflict = 'Operation cannot be fulfilled on pods/binding "web": pod web '
    with pytest.raises(ConflictError, match=conflict + r"has non-empty \.spec\.schedulingGates"):
        to_node(registry)
    update(registry, "pods", "web", schedulingGates=None)
    to_node(registry)
    with pytest.raises(ConflictError, match=conflict + 'is already assigned to node "n"'):
        to_node(registry)


def test_templates_are_judged_at_their_path(registry: Registry):
    spec = pod(containers=[{"name": "c", "image": "x", "ports": [{"containerPort": 0}]}])["spec"]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    document = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    assert refused(lambda: create(registry, "deployments.apps", document)) == [
        "spec.template.spec.containers[0].ports[0].containerPort: Required value"
    ]
