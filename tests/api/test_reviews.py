"""Reviews, tokens of ServiceAccounts, and eviction: over HTTP, as kubectl and client libraries ask."""

from typing import Any

import msgspec
import pytest

from emu.api.options import write_options
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import ApiError, Client

from .conftest import Server, pod

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
PODS = "/api/v1/namespaces/default/pods"


async def call(server: Server, method: str, path: str, body: Any = None) -> Any:

    return msgspec.json.decode(await server.client.request(method, path, body=body))


@pytest.mark.parametrize(
    ("group", "plural", "spec", "status"),
    [
        pytest.param(
            "authorization.k8s.io",
            "selfsubjectaccessreviews",
            {"resourceAttributes": {"verb": "create", "resource": "pods"}},
            {"allowed": True},
            id="may I",
        ),
        pytest.param(
            "authorization.k8s.io",
            "subjectaccessreviews",
            {"user": "a", "nonResourceAttributes": {"verb": "get", "path": "/healthz"}},
            {"allowed": True},
            id="may somebody",
        ),
        pytest.param(
            "authorization.k8s.io",
            "selfsubjectrulesreviews",
            {"namespace": "default"},
            {"incomplete": False},
            id="what may I",
        ),
        pytest.param(
            "authentication.k8s.io",
            "selfsubjectreviews",
            {},
            {
                "userInfo": {
                    "username": "kubernetes-admin",
                    "groups": ["system:masters", "system:authenticated"],
                }
            },
            id="who am I",
        ),
        pytest.param(
            "authentication.k8s.io",
            "tokenreviews",
            {"token": "nobody's"},
            {"authenticated": False},
            id="whose is an unknown token",
        ),
    ],
)
async def test_a_review_answers(
    server: Server, group: str, plural: str, spec: dict[str, Any], status: dict[str, Any]
):
    answer = await call(server, "POST", f"/apis/{group}/v1/{plural}", {"spec": spec})
    assert status.items() <= answer["status"].items()
    assert answer["apiVersion"] == f"{group}/v1"


@pytest.mark.parametrize(
    ("path", "spec", "message"),
    [
        pytest.param(
            "authorization.k8s.io/v1/selfsubjectaccessreviews",
            {},
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or "
            "resourceAttributes must be specified",
            id="of nothing",
        ),
        pytest.param(
            "authorization.k8s.io/v1/subjectaccessreviews",
            {"resourceAttributes": {}},
            'spec.user: Invalid value: "": at least one of user or group must be specified',
            id="of nobody",
        ),
        pytest.param(
            "authentication.k8s.io/v1/tokenreviews",
            {},
            "spec.token: Required value: token is required for authentication",
            id="of no token",
        ),
    ],
)
async def test_a_review_refuses(server: Server, path: str, spec: dict[str, Any], message: str):
    with pytest.raises(ApiError) as refused:
        await call(server, "POST", f"/apis/{path}", {"spec": spec})
    assert refused.value.code == 422
    assert message in refused.value.message


async def test_a_service_account_s_token_is_its_identity_until_it_is_gone(server: Server):
    await call(server, "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
    request = await call(server, "POST", f"{ACCOUNTS}/robot/token", {"spec": {"expirationSeconds": 3600}})
    token = request["status"]["token"]
    review = {"spec": {"token": token}}
    answer = await call(server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert answer["status"]["user"]["username"] == "system:serviceaccount:default:robot"
    credentials = msgspec.structs.replace(read_kubeconfig(server.kubeconfig), token=token)
    async with Client(credentials) as robot:
        assert b"robot" in await robot.request("GET", f"{ACCOUNTS}/robot")
        await call(server, "DELETE", f"{ACCOUNTS}/robot")
        with pytest.raises(ApiError) as refused:
            await robot.request("GET", PODS)
    assert refused.value.code == 401


async def test_an_eviction_deletes_the_pod(server: Server):
    await call(server, "POST", PODS, pod())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    assert (await call(server, "POST", f"{PODS}/web/eviction", eviction))["status"] == "Success"
    with pytest.raises(ApiError) as gone:
        await call(server, "GET", f"{PODS}/web")
    assert gone.value.code == 404


@pytest.mark.parametrize(
    ("status", "why", "retry"),
    [
        pytest.param({}, "is still being processed by the server", 10, id="nobody has counted yet"),
        pytest.param(
            {"observedGeneration": 1, "desiredHealthy": 1, "currentHealthy": 1},
            "needs 1 healthy pods and has 1 currently",
            None,
            id="no pod can be spared",
        ),
        pytest.param({"observedGeneration": 1, "disruptionsAllowed": 1}, "", None, id="one can be spared"),
    ],
)
async def test_a_budget_judges_evictions(server: Server, status: Any, why: str, retry: int | None):
    await call(server, "POST", PODS, pod() | {"metadata": {"name": "web", "labels": {"app": "web"}}})
    await call(server, "PUT", f"{PODS}/web/status", pod() | {"status": {"phase": "Running"}})
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    made = await call(server, "POST", budgets, {"metadata": {"name": "careful"}, "spec": spec})
    await call(server, "PUT", f"{budgets}/careful/status", made | {"status": status})
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    if not why:
        assert (await call(server, "POST", f"{PODS}/web/eviction", eviction))["status"] == "Success"
        return
    with pytest.raises(ApiError) as refused:
        await call(server, "POST", f"{PODS}/web/eviction", eviction)
    assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
    assert why in refused.value.details["causes"][0]["message"]
    assert refused.value.details.get("retryAfterSeconds") == retry


@pytest.mark.parametrize(
    ("query", "agent", "manager"),
    [
        pytest.param({"fieldManager": "me"}, "kubectl/v1.33", "me", id="given"),
        pytest.param({}, "kubectl/v1.33.1 (linux/amd64)", "kubectl", id="the client's program"),
        pytest.param({}, "", "unknown", id="none"),
    ],
)
def test_the_field_manager(query: dict[str, str], agent: str, manager: str):
    assert write_options("CreateOptions", query, agent).manager == manager
