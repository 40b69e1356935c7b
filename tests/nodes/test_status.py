import pytest

from emu.core.objects import Condition, Container, Pod, PodSpec, PodStatus
from emu.nodes.status import ContainerState, Transitions, phase_of, pod_status

NOW = "2030-01-01T00:00:00Z"
RUNNING = ContainerState("a", "running", ready=True, started_at=NOW)
CREATING = ContainerState("a")
CRASHED = ContainerState("a", "waiting", "CrashLoopBackOff", restart_count=1)
DONE = ContainerState("a", "terminated", exit_code=0)
FAILED = ContainerState("a", "terminated", exit_code=1)


@pytest.mark.parametrize(
    ("rule", "states", "policy", "phase"),
    [
        ("one is still being created", [RUNNING, CREATING], "Always", "Pending"),
        ("all run", [RUNNING, RUNNING], "Always", "Running"),
        ("waiting for its restart", [CRASHED], "Always", "Running"),
        ("all done", [DONE, DONE], "Never", "Succeeded"),
        ("one failed and is not restarted", [DONE, FAILED], "Never", "Failed"),
        ("one done, one runs", [DONE, RUNNING], "Never", "Running"),
        ("done, but always restarted", [DONE], "Always", "Running"),
    ],
)
def test_phase(rule: str, states: list[ContainerState], policy: str, phase: str) -> None:
    assert phase_of(states, policy) == phase, rule


def written(pod: Pod, states: list[ContainerState], **kind: bool) -> dict[str, object]:
    return pod_status(
        pod,
        states,
        address="127.200.1.2",
        host="127.200.0.1",
        started=NOW,
        transitions=Transitions(pod),
        now=NOW,
        **kind,
    )


def pod(*conditions: Condition) -> Pod:
    spec = PodSpec(containers=(Container(name="a", image="agnhost"),))
    return Pod(spec=spec, status=PodStatus(conditions=conditions))


def conditions(status: dict[str, object]) -> dict[str, dict[str, str]]:
    return {item["type"]: item for item in status["conditions"]}  # type: ignore[attr-defined]


def test_a_running_pod() -> None:
    status = written(pod(), [RUNNING])
    assert status["phase"] == "Running"
    assert status["podIPs"] == [{"ip": "127.200.1.2"}]
    assert {kind: item["status"] for kind, item in conditions(status).items()} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    [container] = status["containerStatuses"]  # type: ignore[misc]
    assert container["state"] == {"running": {"startedAt": NOW}}
    assert container["ready"] is True


def test_an_unready_container_is_named() -> None:
    ready = conditions(written(pod(), [RUNNING._replace(ready=False)]))["Ready"]
    assert ready["status"] == "False"
    assert ready["message"] == "containers with unready status: [a]"


def test_a_terminating_pod_is_not_ready() -> None:
    status = written(pod(), [RUNNING], terminating=True)
    assert conditions(status)["Ready"]["status"] == "False"


def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    before = "2029-01-01T00:00:00Z"
    known = pod(
        Condition(type="Ready", status="False", last_transition_time=before),
        Condition(type="Initialized", status="True", last_transition_time=before),
    )
    found = conditions(written(known, [RUNNING]))
    assert found["Ready"]["lastTransitionTime"] == NOW
    assert found["Initialized"]["lastTransitionTime"] == before
