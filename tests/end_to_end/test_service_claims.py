"""Which Services kube-proxy serves, and which of two that claim one address."""

from __future__ import annotations

import contextlib

from as_a_client import Space, http, outcome, pod, service

from emu.core.objects import Event, Service

OUTSIDE = "127.220.0.9"


def until_served(space: Space, name: str, address: str) -> None:
    def served() -> bool:
        with contextlib.suppress(OSError):
            return http(OUTSIDE, address) == name
        return False

    space.cluster.until(served, what=f"{address} is served by {name}")


def test_a_service_of_another_proxy_is_left_alone(space):
    space.apply(pod("one"), service("foreign", "one"))
    address = space.vip("foreign")
    until_served(space, "one", address)
    label = "service.kubernetes.io/service-proxy-name"
    space.patch(Service, "foreign", {"metadata": {"labels": {label: "mesh"}}})
    space.cluster.until(lambda: outcome(OUTSIDE, address) == "refused", what="it is left alone")
    space.patch(Service, "foreign", {"metadata": {"labels": {label: None}}})
    until_served(space, "one", address)


def test_of_two_services_with_one_external_ip_the_older_has_it(space):
    address = space.outside("1.3")
    space.apply(pod("one"), pod("two"), service("earlier", "one", externalIPs=[address]))
    until_served(space, "one", address)
    space.apply(service("later", "two", externalIPs=[address]))

    def told() -> list[str]:
        return [
            event.message
            for event in space.cluster.objects(Event, space.name)
            if event.reason == "PortNotBound" and event.name.startswith("later.")
        ]

    space.cluster.until(told, what="the later one is told")
    assert f"belongs to the older Service {space.name}/earlier" in told()[0]
    assert http(OUTSIDE, address) == "one"
    space.delete(Service, "earlier")
    until_served(space, "two", address)
