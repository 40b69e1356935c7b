"""The operator that test_python_kopf.py runs: what it was told it writes into the API."""

import kopf
import kubernetes_asyncio as kubernetes

WATCHED = {"labels": {"watched": "yes"}}


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_):
    settings.peering.standalone = True
    settings.posting.enabled = True


@kopf.on.create("services", **WATCHED)
async def created(name, patch, body, **_):
    patch.metadata.annotations["example.com/created"] = name
    kopf.event(body, type="Normal", reason="Told", message="the operator was told")


@kopf.on.resume("services", **WATCHED)
async def resumed(patch, **_):
    patch.metadata.annotations["example.com/resumed"] = "yes"


@kopf.on.update("services", field="spec.ports", **WATCHED)
async def updated(new, patch, **_):
    patch.metadata.annotations["example.com/updated"] = str(new[0]["port"])


@kopf.timer("services", interval=0.2, **WATCHED)
async def tick(patch, annotations, **_):
    patch.metadata.annotations["example.com/ticks"] = str(int(annotations.get("example.com/ticks", 0)) + 1)


@kopf.on.delete("services", **WATCHED)
async def deleted(name, namespace, **_):
    api = await kubernetes.config.new_client_from_config()
    async with api:
        body = {"metadata": {"name": f"{name}-was-deleted"}, "data": {"from": "delete"}}
        await kubernetes.client.CoreV1Api(api).create_namespaced_config_map(namespace, body)


@kopf.on.event("configmaps")
async def event(type, body, patch, **_):  # noqa: A002 - kopf names its arguments
    if body.get("data", {}).get("from") == "delete" and "seen" not in body["data"]:
        patch.setdefault("data", {})["seen"] = "yes"
