"""kubectl's commands that read: get in all its forms, describe, explain, discovery."""

from __future__ import annotations

import pytest
from kubectl_rows import Do, File, Give, Row, While, cases, row, run

SECRETS = """
apiVersion: v1
kind: Secret
metadata: {name: a, labels: {app: web, tier: front}}
stringData: {first: a, second: b}
---
apiVersion: v1
kind: Secret
metadata: {name: b, labels: {app: web}}
stringData: {first: z}
---
apiVersion: v1
kind: Secret
metadata: {name: c}
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {first: "1"}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}]
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
    env: [{name: COLOUR, value: blue}]
"""
NETWORK_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {}}], ports: [{port: 5432}]}]
"""
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: site}
spec:
  ingressClassName: none
  tls: [{hosts: [example.com], secretName: tls}]
  rules:
  - host: example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: ["true"]}]}}
"""
CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}}
"""
STATEFUL_SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 0
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: postgres}]}}
"""
DAEMON_SET = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {nodeSelector: {disk: none}, containers: [{name: c, image: agent}]}
"""
OTHERS = """
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: hunter2}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: slice, labels: {kubernetes.io/service-name: elsewhere}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [192.0.2.7], conditions: {ready: true}}]
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: leader}
spec: {holderIdentity: me, leaseDurationSeconds: 15}
"""
POD_DISRUPTION_BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: careful}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
"""
RBAC = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: read}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""

SERVER = (
    row("version", Do("version", r"Client Version: .*v1\.\d+ ... Server Version: .*v1\.\d+\.\d+\+emu")),
    row("version as JSON", Do("version -o json", r'"serverVersion": \{ ... "gitVersion": "v1\.')),
    row(
        "api-resources",
        Do("api-resources", r"^services +svc +v1 +true +Service$"),
        Do("api-resources", r"^deployments +deploy +apps/v1 +true +Deployment$"),
        Do("api-resources", r"^nodes +no +v1 +false +Node$"),
        Do("api-resources", r"^endpointslices +discovery.k8s.io/v1 +true +EndpointSlice$"),
    ),
    row(
        "api-resources wide",
        Do(
            "api-resources -o wide",
            r"^secrets .* create,delete,deletecollection,get,list,patch,update,watch",
        ),
        Do("api-resources -o wide", r"^pods .* all$"),
    ),
    row(
        "api-resources of a group",
        Do("api-resources --api-group=apps -o name", r"^deployments.apps$", hidden="services"),
    ),
    row(
        "api-resources, cluster scope",
        Do("api-resources --namespaced=false -o name", "^nodes$", hidden="pods"),
    ),
    row(
        "api-resources by verb",
        Do("api-resources --verbs=list,watch -o name", r"^services$"),
    ),
    row("api-versions", Do("api-versions", r"^apps/v1\n ... ^networking.k8s.io/v1\n ... ^v1$")),
    row(
        "cluster-info",
        Do("cluster-info", r"control plane.* is running at .*https://127\.\d+\.\d+\.\d+:\d+"),
        Do("cluster-info", r"CoreDNS.* is running at .*/services/kube-dns:dns/proxy"),
    ),
    row("get --raw /healthz", Do("get --raw /healthz", r"\Aok")),
    row("get --raw /readyz", Do("get --raw /readyz", r"\Aok")),
    row("get --raw /livez", Do("get --raw /livez", r"\Aok")),
    row("get --raw /readyz?verbose", Do("get --raw /readyz?verbose", r"readyz check passed|\Aok")),
    row(
        "get --raw of a collection",
        Do("get --raw /api/v1/namespaces/{ns}/secrets", r'"kind":"SecretList"'),
        given=SECRETS,
    ),
    row(
        "get --raw of nothing",
        Do(
            "get --raw /apis/none/v1",
            r"Error from server \(NotFound\): the server could not find the requested resource",
            code=1,
        ),
    ),
)

GET = (
    row(
        "get",
        Do(
            "get secrets",
            r"\ANAME +TYPE +DATA +AGE\na +Opaque +2 +\d+s\nb +Opaque +1 +\d+s\nc +Opaque +0 +\d+s\n\Z",
        ),
        given=SECRETS,
    ),
    row("get by short name", Do("get secret a", r"\ANAME +TYPE +DATA +AGE\na +Opaque +2 "), given=SECRETS),
    row("get of several names", Do("get secret a c", r"^a  ... ^c ", hidden="^b "), given=SECRETS),
    row(
        "get of several kinds",
        Do(
            "get secret,svc",
            r"^NAME +TYPE +DATA ... ^secret/a +Opaque +2 ... ^NAME +TYPE ... ^service/web +NodePort",
        ),
        given=SECRETS + "---" + SERVICE,
    ),
    row(
        "get of kind/name pairs",
        Do("get secret/a svc/web", r"^secret/a +Opaque +2 ... ^service/web "),
        given=SECRETS + "---" + SERVICE,
    ),
    row(
        "get by group",
        Do("get deployments.v1.apps,svc", r"^deployment.apps/web "),
        given=DEPLOYMENT,
    ),
    row("get, no headers", Do("get secret --no-headers", r"\Aa +Opaque +2"), given=SECRETS),
    row(
        "get with labels",
        Do(
            "get secret --show-labels",
            r"LABELS\na +Opaque +2 +\w+ +app=web,tier=front\n ... c +Opaque +0 +\w+ +<none>",
        ),
        given=SECRETS,
    ),
    row(
        "get with a label column",
        Do("get secret -L tier", r"TIER\na +Opaque +2 +\w+ +front\nb +Opaque +1 +\w+ *\n"),
        given=SECRETS,
    ),
    row("get --show-kind", Do("get secret --show-kind", r"^secret/a +Opaque +2"), given=SECRETS),
    row(
        "get svc",
        Do(
            "get svc",
            r"\ANAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\n"
            r"web +NodePort +127\.\S+ +<none> +80:\d+/TCP,53:\d+/UDP +\d+s\n\Z",
        ),
        given=SERVICE,
    ),
    row(
        "get svc -o wide",
        Do("get svc web -o wide", r"AGE +SELECTOR\nweb .* app=web\n"),
        given=SERVICE,
    ),
    row(
        "get nodes -o wide",
        Do(
            "get nodes -o wide",
            r"\ANAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +"
            r"CONTAINER-RUNTIME\nnode-1 +Ready +\S+ +\w+ +v1\.\S+ +127\.\S+ +<none> ",
        ),
    ),
    row(
        "get pods -o wide",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do("get pods", r"\ANAME +READY +STATUS +RESTARTS +AGE\nalone +1/1 +Running +0 +\d+s\n\Z"),
        Do(
            "get pods -o wide",
            r"AGE +IP +NODE +NOMINATED NODE +READINESS GATES\n"
            r"alone +1/1 +Running +0 +\d+s +127\.\S+ +node-\d +<none> +<none>\n\Z",
        ),
        given=POD,
    ),
    row(
        "get deploy and rs, wide",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do("get deploy", r"\ANAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +1/1 +1 +1 +\d+s\n\Z"),
        Do("get deploy -o wide", r"CONTAINERS +IMAGES +SELECTOR\n.* c +registry\S+agnhost:2.53 +app=web\n"),
        Do("get rs", r"\ANAME +DESIRED +CURRENT +READY +AGE\nweb-\w+ +1 +1 +1 +\d+s\n\Z"),
        Do("get rs -o wide", r"CONTAINERS +IMAGES +SELECTOR\n.* app=web,pod-template-hash=\w+\n"),
        given=DEPLOYMENT,
    ),
    row("get ns", Do("get ns {ns}", r"\ANAME +STATUS +AGE\n{ns} +Active +\d+s\n\Z")),
    row("get secrets", Do("get secrets", r"\ANAME +TYPE +DATA +AGE\ns +Opaque +1 "), given=OTHERS),
    row("get sa", Do("get sa robot", r"\ANAME +AGE\nrobot +\d+s\n\Z"), given=OTHERS),
    row(
        "get endpointslices",
        Do(
            "get endpointslices slice",
            r"\ANAME +ADDRESSTYPE +PORTS +ENDPOINTS +AGE\nslice +IPv4 +80 +192.0.2.7 ",
        ),
        given=OTHERS,
    ),
    row("get leases", Do("get leases", r"\ANAME +HOLDER +AGE\nleader +me "), given=OTHERS),
    row("get netpol", Do("get netpol", r"\ANAME +POD-SELECTOR +AGE\nclosed +app=db "), given=NETWORK_POLICY),
    row(
        "get ing",
        Do("get ing", r"\ANAME +CLASS +HOSTS +ADDRESS +PORTS +AGE\nsite +none +example.com +80, 443 +\d+s\n"),
        given=INGRESS,
    ),
    row("get sts", Do("get sts", r"\ANAME +READY +AGE\ndb +0/0 +\d+s\n"), given=STATEFUL_SET),
    row(
        "get ds",
        Do(
            "get ds",
            r"\ANAME +DESIRED +CURRENT +READY +UP-TO-DATE +AVAILABLE +NODE SELECTOR +AGE\n"
            r"agent +0 +0 +0 +0 +0 +disk=none +\d+s\n",
        ),
        given=DAEMON_SET,
    ),
    row(
        "get job",
        Do("get job", r"\ANAME +STATUS +COMPLETIONS +DURATION +AGE\nonce +\w+ +0/1 "),
        given=JOB,
    ),
    row(
        "get cj",
        Do(
            "get cj",
            r"\ANAME +SCHEDULE +TIMEZONE +SUSPEND +ACTIVE +LAST SCHEDULE +AGE\n"
            r"nightly +0 3 \* \* \* +<none> +False +0 +<none> +\d+s\n",
        ),
        given=CRON_JOB,
    ),
    row(
        "get pdb",
        Do(
            "get pdb",
            r"\ANAME +MIN AVAILABLE +MAX UNAVAILABLE +ALLOWED DISRUPTIONS +AGE\ncareful +1 +N/A +0 +\d+s\n",
        ),
        given=POD_DISRUPTION_BUDGET,
    ),
    row(
        "get role, rolebinding",
        Do("get role", r"\ANAME +CREATED AT\nreader +20\d\d-"),
        Do(
            "get rolebinding -o wide",
            r"\ANAME +ROLE +AGE +USERS +GROUPS +SERVICEACCOUNTS\nread +Role/reader +\w+ +jane ",
        ),
        given=RBAC,
    ),
    row(
        "get pvc",
        Do(
            "get pvc",
            r"\ANAME +STATUS +VOLUME +CAPACITY +ACCESS MODES +STORAGECLASS +VOLUMEATTRIBUTESCLASS +AGE\n"
            r"disk +Pending .* \d+s\n",
        ),
        given=CLAIM,
    ),
    row("get -o yaml", Do("get secret a -o yaml", r"^apiVersion: v1\ndata:\n  first: YQ==\n"), given=SECRETS),
    row("get -o json", Do("get secret a -o json", r'"kind": "Secret"'), given=SECRETS),
    row(
        "get a list -o json",
        Do("get secret -o json", r'\A\{\n    "apiVersion": "v1",\n    "items": \[ ... "kind": "List"'),
        given=SECRETS,
    ),
    row(
        "get -o name",
        Do("get secret,svc -o name", r"\Asecret/a\nsecret/b\nsecret/c\nservice/web\n\Z"),
        given=SECRETS + "---" + SERVICE,
    ),
    row(
        "get -o jsonpath",
        Do("get secret -o jsonpath='{.items[*].metadata.name}'", r"\Aa b c\Z"),
        given=SECRETS,
    ),
    row(
        "get -o jsonpath-as-json",
        Do("get secret a -o jsonpath-as-json='{.data.first}'", r'\A\[\n    "YQ=="\n\]\n\Z'),
        given=SECRETS,
    ),
    row(
        "get -o custom-columns",
        Do(
            "get secret -o custom-columns=N:.metadata.name,F:.data.first",
            r"\AN +F\na +YQ==\nb +eg==\nc +<none>\n\Z",
        ),
        given=SECRETS,
    ),
    row(
        "get -o go-template",
        Do("get secret -o go-template='{{range .items}}{{.metadata.name}};{{end}}'", r"\Aa;b;c;\Z"),
        given=SECRETS,
    ),
    row(
        "get --sort-by",
        Do("get secret --sort-by=.data.first --no-headers", r"\Ac .*\na .*\nb "),
        given=SECRETS,
    ),
    row(
        "get --sort-by, as JSON",
        Do("get secret --sort-by='{.data.first}' -o name", r"\Asecret/c\nsecret/a\nsecret/b\n"),
        given=SECRETS,
    ),
    row(
        "get --chunk-size",
        Do("get secret --chunk-size=1 --no-headers", r"\Aa .*\nb .*\nc .*\n\Z"),
        given=SECRETS,
    ),
    row(
        "get --chunk-size, names",
        Do("get secret --chunk-size=2 -o name", r"\Asecret/a\nsecret/b\nsecret/c\n\Z"),
        given=SECRETS,
    ),
    row("get -l", Do("get secret -l app=web -o name", r"\Asecret/a\nsecret/b\n\Z"), given=SECRETS),
    row("get -l unequal", Do("get secret -l app!=web -o name", r"\Asecret/c\n\Z"), given=SECRETS),
    row(
        "get -l in",
        Do("get secret -l 'tier in (front,back),app' -o name", r"\Asecret/a\n\Z"),
        given=SECRETS,
    ),
    row(
        "get -l notin",
        Do("get secret -l 'tier notin (front)' -o name", r"\Asecret/b\nsecret/c\n\Z"),
        given=SECRETS,
    ),
    row(
        "get -l without a key",
        Do("get secret -l '!tier' -o name", r"\Asecret/b\nsecret/c\n\Z"),
        given=SECRETS,
    ),
    row("get -l that is wrong", Do("get secret -l 'a=('", r"unable to parse requirement", code=1)),
    row(
        "get --field-selector",
        Do("get secret --field-selector metadata.name=b -o name", r"\Asecret/b\n\Z"),
        Do("get secret --field-selector metadata.name!=b -o name", r"\Asecret/a\nsecret/c\n\Z"),
        Do("get pods -A --field-selector status.phase=Failed", r"\ANo resources found\n"),
        Do("get svc --field-selector spec.type=NodePort -o name", r"\Aservice/web\n\Z"),
        given=SECRETS + "---" + SERVICE,
    ),
    row(
        "get --field-selector that is not known",
        Do(
            "get cm --field-selector data.first=1",
            r'Error from server \(BadRequest\): Unable to find "/v1, Resource=configmaps" that match '
            r'label selector "", field selector "data.first=1": "data.first" is not a known field selector: '
            r'only "metadata.name", "metadata.namespace"',
            code=1,
        ),
    ),
    row(
        "get -A",
        Do("get secret -A", r"\ANAMESPACE +NAME +TYPE +DATA +AGE\n ... ^{ns} +a +Opaque +2 "),
        given=SECRETS,
    ),
    row(
        "get all",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do(
            "get all",
            r"^pod/web-\S+ +1/1 ... ^service/web +NodePort ... ^deployment.apps/web +1/1"
            r" ... ^replicaset.apps/web-\w+ +1 ",
            hidden="secret",
        ),
        given=DEPLOYMENT + "---" + SERVICE,
    ),
    row(
        "get of a missing one",
        Do("get pod none", r'\AError from server \(NotFound\): pods "none" not found\n\Z', code=1),
        Do(
            "get deploy none",
            r'\AError from server \(NotFound\): deployments.apps "none" not found\n\Z',
            code=1,
        ),
        Do("get pod none --ignore-not-found", r"\A\Z"),
        Do("get secret a none", r'^a  ... Error from server \(NotFound\): secrets "none" not found', code=1),
        given=SECRETS,
    ),
    row("get of none", Do("get svc", r"\ANo resources found in {ns} namespace.\n")),
    row(
        "get of no kind", Do("get nothings", r"the server doesn't have a resource type \"nothings\"", code=1)
    ),
    row("get in no namespace", Do("get secret -n nowhere", r"\ANo resources found in nowhere namespace.\n")),
    row(
        "get --show-managed-fields",
        Do("create cm m --from-literal=a=b", "created"),
        Do("get cm m -o yaml", "name: m", hidden="managedFields"),
        Do(
            "get cm m -o yaml --show-managed-fields",
            r"managedFields:\n  - apiVersion: v1\n    fieldsType: FieldsV1\n    fieldsV1:\n      f:data:\n"
            r"        .: \{\}\n        f:a: \{\}\n    manager: kubectl-create\n    operation: Update\n",
        ),
    ),
    row(
        "get --subresource",
        Do(
            "get deploy web --subresource=scale -o jsonpath='{.kind} {.spec.replicas} {.status.selector}'",
            r"\AScale 1 app=web\Z",
        ),
        Do("get deploy web --subresource=status -o name", "deployment.apps/web"),
        given=DEPLOYMENT,
    ),
    row(
        "get -w",
        While(
            "get secret -w",
            r"^c +Opaque +0 ",
            (Give("{apiVersion: v1, kind: Secret, metadata: {name: d}, data: {k: dg==}}"),),
            r"^d +Opaque +1 +\d+s$",
        ),
        given=SECRETS,
    ),
    row(
        "get -w of one",
        While(
            "get secret b -w",
            r"^b +Opaque +1 ",
            (Do('patch secret b -p \'{"stringData":{"more":"x"}}\''),),
            r"^b +Opaque +2 +\d+s$",
        ),
        given=SECRETS,
    ),
    row(
        "get --watch-only",
        File("more.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {generateName: more-}\n"),
        While(
            "get secret --watch-only -o name",
            "",
            (Do("create -f {dir}/more.yaml"),),
            r"^secret/more-",
            again=True,
        ),
        While(
            "get secret --watch-only", "", (Do("create -f {dir}/more.yaml"),), r"\ANAME .*\nmore-", again=True
        ),
        given=SECRETS,
    ),
    row(
        "get -w --output-watch-events",
        While(
            "get secret -w --output-watch-events",
            r"^ADDED +c +Opaque +0 ",
            (Do("delete secret c", "deleted"),),
            r"^DELETED +c +Opaque +0 ",
        ),
        given=SECRETS,
    ),
    row(
        "get -w -o json",
        While("get secret c -w -o json", r'"name": "c"', (Do("label secret c x=y"),), r'"x": "y"'),
        given=SECRETS,
    ),
)

DESCRIBE = (
    row(
        "describe pod",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do(
            "describe pod alone",
            r"^Name: +alone\nNamespace: +{ns}\n ... ^Node: +node-\d/127\. ... ^Status: +Running\n"
            r" ... ^IP: +127\. ... COLOUR: +blue ... ^Events:\n ... Scheduled",
        ),
        given=POD,
    ),
    row(
        "describe svc",
        Do(
            "describe svc web",
            r"^Name: +web\n ... ^Selector: +app=web\nType: +NodePort\n ... ^Port: +http +80/TCP\n"
            r"TargetPort: +8080/TCP\nNodePort: +http +\d+/TCP\n ... ^Session Affinity: +None\n",
        ),
        given=SERVICE,
    ),
    row(
        "describe svc with endpoints",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        # The address is in the slice first, and ready a moment later.
        While("get endpointslices -w", r"127\.\S+", (), r""),
        Do("wait endpointslices --all --for=jsonpath={.endpoints[0].conditions.ready}=true --timeout=20s"),
        Do("describe svc web", r"Endpoints: +127\.\d+\.\d+\.\d+:8080\n"),
        given=DEPLOYMENT + "---" + SERVICE,
    ),
    row(
        "describe deploy",
        Do("rollout status deploy/web --timeout=20s", "successfully rolled out"),
        Do(
            "describe deploy web",
            r"^Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable\n"
            r"StrategyType: +RollingUpdate\n ... ^RollingUpdateStrategy: +25% max unavailable, 25% max surge"
            r" ... Available +True +MinimumReplicasAvailable\n"
            r" ... ^NewReplicaSet: +web-\w+ \(1/1 replicas created\)",
        ),
        Do("describe rs -l app=web", r"^Controlled By: +Deployment/web\nReplicas: +1 current / 1 desired\n"),
        Do("describe deploy web", r"ScalingReplicaSet"),
        given=DEPLOYMENT,
    ),
    row(
        "describe node",
        Do(
            "describe node node-1",
            r"^Name: +node-1\n ... ^Unschedulable: +false\n ... ^Lease:\n  HolderIdentity: +node-1\n ... "
            r"Ready +True ... InternalIP: +127\. ... ^Non-terminated Pods:",
        ),
    ),
    row(
        "describe ns",
        Do(
            "describe ns {ns}",
            r"^Name: +{ns}\nLabels: +kubernetes.io/metadata.name={ns}\n ... ^Status: +Active\n",
        ),
    ),
    row("describe cm", Do("describe cm a", r"^Data\n====\nfirst:\n----\n1\n"), given=CONFIG_MAP),
    row("describe secret", Do("describe secret s", r"^password: +7 bytes$", hidden="hunter2"), given=OTHERS),
    row("describe sa", Do("describe sa robot", r"^Name: +robot$"), given=OTHERS),
    row(
        "describe endpointslice", Do("describe endpointslice slice", r"Addresses: +192.0.2.7\n"), given=OTHERS
    ),
    row("describe ep", Do("describe ep kubernetes -n default", r"^Subsets:\n  Addresses: +127\.")),
    row("describe lease", Do("describe lease leader", r"Holder Identity: +me\n"), given=OTHERS),
    row(
        "describe netpol",
        Do(
            "describe netpol closed",
            r"PodSelector: +app=db\n +Allowing ingress traffic:\n"
            r" +To Port: 5432/TCP\n +From:\n +PodSelector: <none>",
        ),
        given=NETWORK_POLICY,
    ),
    row("describe ing", Do("describe ing site", r"example.com +\n? *\/ +web:80 "), given=INGRESS),
    row("describe sts", Do("describe sts db", r"^Replicas: +0 desired \| 0 total$"), given=STATEFUL_SET),
    row("describe ds", Do("describe ds agent", r"^Node-Selector: +disk=none$"), given=DAEMON_SET),
    row("describe job", Do("describe job once", r"^Completions: +1\n"), given=JOB),
    row(
        "describe cj",
        Do("describe cj nightly", r"^Schedule: +0 3 \* \* \*\nConcurrency Policy: +Allow\n"),
        given=CRON_JOB,
    ),
    row(
        "describe pdb",
        Do("describe pdb careful", r"^Min available: +1\nSelector: +app=web$"),
        given=POD_DISRUPTION_BUDGET,
    ),
    row("describe role", Do("describe role reader", r"pods +\[\] +\[\] +\[get list\]"), given=RBAC),
    row("describe rolebinding", Do("describe rolebinding read", r"User +jane"), given=RBAC),
    row("describe pvc", Do("describe pvc disk", r"^Status: +Pending\n ... ^Access Modes:"), given=CLAIM),
    row(
        "describe of a missing one",
        Do("describe pod none", r'Error from server \(NotFound\): pods "none" not found', code=1),
    ),
)

EVENTS = (
    row(
        "events",
        Do("wait pod/alone --for=condition=Ready --timeout=20s", "condition met"),
        Do(
            "events",
            r"\ALAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n"
            r" ... Normal +Scheduled +Pod/alone +Successfully assigned",
        ),
        Do("events --for pod/alone --types=Normal", r"Scheduled"),
        Do("events --types=Warning", r"No events found in {ns} namespace"),
        Do("get events", r"\ALAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n ... Normal +Scheduled +pod/alone "),
        Do(
            "get events --field-selector involvedObject.name=alone,reason=Scheduled -o name",
            r"\Aevent/alone\S+\n\Z",
        ),
        Do("get events.events.k8s.io -o name", r"^event.events.k8s.io/alone"),
        given=POD,
    ),
)

EXPLAIN = (
    row(
        "explain",
        Do("explain service", r"KIND: +Service\nVERSION: +v1\n ... FIELDS:\n +apiVersion\t<string>"),
    ),
    row(
        "explain a field",
        Do(
            "explain service.spec.ports",
            r"FIELD: ports <\[\]ServicePort>\n ...   targetPort\t<IntOrString>",
        ),
    ),
    row(
        "explain --recursive",
        Do("explain netpol --recursive", r"ipBlock\t<IPBlock>\n +cidr\t<string> -required-"),
    ),
    row("explain with a group", Do("explain deploy.spec.strategy", r"GROUP: +apps\nKIND: +Deployment\n")),
    row("explain of no field", Do("explain service.nothing", r'field "nothing" does not exist', code=1)),
    row(
        "explain by OpenAPI v2",
        Do(
            "explain service.spec --output=plaintext-openapiv2",
            r"RESOURCE: spec <Object> ... clusterIP\t<string>",
        ),
    ),
)


@pytest.mark.parametrize(("binary", "row"), cases((*SERVER, *GET, *DESCRIBE, *EVENTS, *EXPLAIN)))
def test_reading(binary, row: Row, cluster, tmp_path, kubectl_cache):
    run(binary, row, cluster, tmp_path, kubectl_cache(binary))
