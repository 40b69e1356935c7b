from typing import Any

import pytest

from emu.api.kinds.schedules import check_schedule
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .kinds import create, refusal, row, update, update_refusal

TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "perl:5"}], "restartPolicy": "Never"}}


def job(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": TEMPLATE, **spec}}


def cron_job(**spec: Any) -> dict[str, Any]:
    return {"spec": {"schedule": "*/5 * * * *", "jobTemplate": job(), **spec}}


def test_defaults_of_a_job(registry: Registry):
    made = create(registry, "jobs.batch", job())
    uid = made["metadata"]["uid"]
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "x",
        "controller-uid": uid,
        "job-name": "x",
    }
    spec = made["spec"]
    assert spec.pop("template")["metadata"]["labels"] == labels
    assert made["metadata"]["labels"] == labels
    assert made["metadata"]["generation"] == 1
    assert spec == {
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "completions": 1,
        "manualSelector": False,
        "parallelism": 1,
        "podReplacementPolicy": "TerminatingOrFailed",
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
        "suspend": False,
    }


@pytest.mark.parametrize(
    ("given", "completions", "parallelism"),
    [({"parallelism": 2}, None, 2), ({"completions": 2}, 2, 1), ({"completions": 2, "parallelism": 3}, 2, 3)],
)
def test_completions_are_a_work_queue_when_only_the_parallelism_is_given(
    registry: Registry, given: dict[str, Any], completions: int | None, parallelism: int
):
    spec = create(registry, "jobs.batch", job(**given))["spec"]
    assert (spec.get("completions"), spec["parallelism"]) == (completions, parallelism)


def test_defaults_of_a_cron_job(registry: Registry):
    made = create(registry, "cronjobs.batch", cron_job())
    spec = made["spec"]
    template = spec.pop("jobTemplate")["spec"]
    assert template.keys() == {"template"}
    assert template["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert spec == {
        "concurrencyPolicy": "Allow",
        "failedJobsHistoryLimit": 1,
        "schedule": "*/5 * * * *",
        "successfulJobsHistoryLimit": 3,
        "suspend": False,
    }
    assert made["status"] == {}


def with_pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {**TEMPLATE["spec"], **spec}}


RESTART = "template.spec.restartPolicy: "


@pytest.mark.parametrize(
    ("name", "document", "errors"),
    [
        pytest.param(
            "jobs.batch",
            job(template=with_pod(restartPolicy="Always")),
            [f'spec.{RESTART}Required value: valid values: "OnFailure", "Never"'],
            id="restart policy",
        ),
        pytest.param(
            "jobs.batch",
            job(template={"spec": {"containers": TEMPLATE["spec"]["containers"]}}),
            [f'spec.{RESTART}Required value: valid values: "OnFailure", "Never"'],
            id="restart policy left out",
        ),
        pytest.param(
            "jobs.batch",
            job(backoffLimit=-1),
            ["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"],
            id="backoff limit",
        ),
        pytest.param(
            "jobs.batch",
            job(completionMode="Indexed", parallelism=2),
            ["spec.completions: Required value: when completion mode is Indexed"],
            id="indexed without completions",
        ),
        pytest.param(
            "jobs.batch",
            job(completionMode="Random"),
            [
                'spec.completionMode: Unsupported value: "Random": supported values: "NonIndexed", "Indexed"',
            ],
            id="completion mode",
        ),
        pytest.param(
            "jobs.batch",
            job(backoffLimitPerIndex=1),
            ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            id="per index",
        ),
        pytest.param(
            "jobs.batch",
            job(podReplacementPolicy="Now"),
            [
                'spec.podReplacementPolicy: Unsupported value: "Now": supported values: "Failed", '
                '"TerminatingOrFailed"'
            ],
            id="replacement",
        ),
        pytest.param(
            "jobs.batch",
            job(manualSelector=True),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template "
                "`labels`",
            ],
            id="manual selector left out",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(schedule=""),
            ["spec.schedule: Required value"],
            id="schedule left out",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(schedule="* * * *"),
            [
                'spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]',
            ],
            id="schedule",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(schedule="TZ=UTC 0 * * * *"),
            [
                'spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, use '
                "timeZone field instead"
            ],
            id="zone in the schedule",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(timeZone="Mars/Olympus"),
            ['spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus'],
            id="zone",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(timeZone="Local"),
            [
                'spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
                "https://www.iana.org/time-zones"
            ],
            id="local zone",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(concurrencyPolicy="Perhaps"),
            [
                'spec.concurrencyPolicy: Unsupported value: "Perhaps": supported values: "Allow", "Forbid", '
                '"Replace"'
            ],
            id="concurrency",
        ),
        pytest.param(
            "cronjobs.batch",
            {"metadata": {"name": "n" * 53}, **cron_job()},
            [f'metadata.name: Invalid value: "{"n" * 53}": must be no more than 52 characters'],
            id="name",
        ),
        pytest.param(
            "cronjobs.batch",
            cron_job(jobTemplate=job(template=with_pod(restartPolicy="Always"))),
            [f'spec.jobTemplate.spec.{RESTART}Required value: valid values: "OnFailure", "Never"'],
            id="restart policy of the template",
        ),
    ],
)
def test_refused(registry: Registry, name: str, document: dict[str, Any], errors: list[str]):
    assert refusal(registry, name, document) == errors


def test_labels_that_contradict_the_generated_ones_are_refused(registry: Registry):
    labelled = {**TEMPLATE, "metadata": {"labels": {"job-name": "other"}}}
    found = refusal(registry, "jobs.batch", job(template=labelled))
    assert len(found) == 1
    assert found[0].startswith("spec.template.metadata.labels[job-name]: Invalid value: {")
    assert found[0].endswith("}: must be 'x'")


def test_the_template_of_a_job_is_immutable(registry: Registry):
    made = create(registry, "jobs.batch", job(completions=2))
    template = made["spec"]["template"]
    changed = {**template, "spec": {**template["spec"], "terminationGracePeriodSeconds": 5}}
    (found,) = update_refusal(registry, "jobs.batch", template=changed)
    assert found.startswith("spec.template: Invalid value: {")
    assert found.endswith(": field is immutable")
    assert update_refusal(registry, "jobs.batch", completions=3) == [
        "spec.completions: Invalid value: 3: field is immutable"
    ]
    assert update(registry, "jobs.batch", parallelism=3, suspend=True)["metadata"]["generation"] == 2


def test_an_indexed_job_is_elastic(registry: Registry):
    create(registry, "jobs.batch", job(completions=2, parallelism=2, completionMode="Indexed"))
    assert update(registry, "jobs.batch", completions=3, parallelism=3)["spec"]["completions"] == 3
    assert update_refusal(registry, "jobs.batch", completions=4) == [
        "spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"
    ]


def test_a_suspended_job_that_has_not_started_may_be_told_where_to_run(registry: Registry):
    made = create(registry, "jobs.batch", job(suspend=True))
    template = made["spec"]["template"]
    moved = {**template, "spec": {**template["spec"], "nodeSelector": {"disk": "ssd"}}}
    assert update(registry, "jobs.batch", template=moved)["spec"]["template"] == moved


def at(seconds: int) -> str:
    return f"1970-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"


def condition(kind: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True"}]}


CONTAINERS = ["c", "perl:5"]


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({"completions": 2}, {}, ["Running", "0/2", ""]),
        ({"completions": 2}, {"startTime": at(50), "succeeded": 1}, ["Running", "1/2", "10s"]),
        ({"parallelism": 3}, {"succeeded": 1}, ["Running", "1/1 of 3", ""]),
        ({"parallelism": 1}, {}, ["Running", "0/1", ""]),
        (
            {"completions": 1},
            {"startTime": at(10), "completionTime": at(15), "succeeded": 1, **condition("Complete")},
            ["Complete", "1/1", "5s"],
        ),
        ({"completions": 1}, condition("Failed"), ["Failed", "0/1", ""]),
        ({"completions": 1}, condition("Suspended"), ["Suspended", "0/1", ""]),
        ({"completions": 1}, condition("FailureTarget"), ["FailureTarget", "0/1", ""]),
    ],
)
def test_rows_of_jobs(spec: dict[str, Any], status: dict[str, Any], cells: list[Any]):
    document = {"metadata": {"name": "x", "creationTimestamp": at(0)}, **job(**spec), "status": status}
    assert row("jobs.batch", document, now=60) == ["x", *cells, "60s", *CONTAINERS, "<none>"]
    assert len(BY_NAME["jobs.batch"].columns) == 8


def test_a_job_being_deleted_is_terminating():
    metadata = {"name": "x", "creationTimestamp": at(0), "deletionTimestamp": at(1)}
    assert row("jobs.batch", {"metadata": metadata, **job()})[1] == "Terminating"


def test_rows_of_cron_jobs():
    metadata = {"name": "x", "creationTimestamp": at(0)}
    document = {"metadata": metadata, **cron_job(timeZone="Etc/UTC", suspend=False)}
    status = {"active": [{"name": "x-1"}], "lastScheduleTime": at(30)}
    common = ["60s", *CONTAINERS, "<none>"]
    assert row("cronjobs.batch", {**document, "status": status}, now=60) == [
        "x",
        "*/5 * * * *",
        "Etc/UTC",
        "False",
        1,
        "30s",
        *common,
    ]
    plain = {"metadata": metadata, **cron_job()}
    assert row("cronjobs.batch", plain, now=60)[2:6] == ["<none>", "<unset>", 0, "<none>"]
    assert len(BY_NAME["cronjobs.batch"].columns) == 10


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("*/5 0-6,8 ? jan-DEC mon", ""),
        ("@hourly", ""),
        ("@every 1h30m", ""),
        ("@every soon", 'failed to parse duration @every soon: time: invalid duration "soon"'),
        ("@often", "unrecognized descriptor: @often"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
        ("", "empty spec string"),
    ],
)
def test_schedules(schedule: str, wrong: str):
    assert check_schedule(schedule) == wrong
