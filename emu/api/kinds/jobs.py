"""Job and CronJob: defaults, validation and columns.

Source: `pkg/apis/batch/v1/defaults.go`, `pkg/apis/batch/validation`, `pkg/registry/batch/job/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emu.api.errors import FieldError, invalid, not_supported, required
from emu.api.kinds import cells, templates
from emu.api.kinds.label_selectors import check_label_selector, matches
from emu.api.kinds.schedules import check_schedule, is_time_zone
from emu.api.naming import dns_label
from emu.api.resource import Column, Document

JOB_COLUMNS = (
    cells.NAME,
    Column("Status"),
    Column("Completions"),
    Column("Duration"),
    cells.AGE,
    *templates.CONTAINER_COLUMNS,
    templates.SELECTOR_COLUMN,
)
CRON_JOB_COLUMNS = (
    cells.NAME,
    Column("Schedule"),
    Column("Timezone"),
    Column("Suspend", "boolean"),
    Column("Active", "integer"),
    Column("Last Schedule"),
    cells.AGE,
    *templates.CONTAINER_COLUMNS,
    templates.SELECTOR_COLUMN,
)
_UID_LABEL = "batch.kubernetes.io/controller-uid"
_NAME_LABEL = "batch.kubernetes.io/job-name"
_LEGACY_UID_LABEL = "controller-uid"
_LEGACY_NAME_LABEL = "job-name"
_MAX_INDEXED_PARALLELISM = 100_000
_MAX_CRON_NAME = 52
"""The controller appends 11 characters to make the name of a Job, which has to be a label."""
_IMMUTABLE = (
    "selector",
    "template",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
)
# The condition that is looked at first decides the status.
_STATUSES = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("", "Terminating"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


# --- Job ---


def default_job(document: Document) -> None:
    """Defaults of batch/v1 Job, and the selector that the server generates."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else (1 << 31) - 1)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("manualSelector", False)
    spec.setdefault("suspend", False)
    spec.setdefault(
        "podReplacementPolicy",
        "TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed",
    )
    metadata = document["metadata"]
    if not spec["manualSelector"]:
        _generate_selector(spec, _generated_labels(metadata))
    if not metadata.get("labels") and (labels := templates.template_labels(spec)):
        metadata["labels"] = dict(labels)
    document.setdefault("status", {})


def _generated_labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    uid, name = metadata.get("uid", ""), metadata.get("name", "")
    return {_LEGACY_UID_LABEL: uid, _LEGACY_NAME_LABEL: name, _UID_LABEL: uid, _NAME_LABEL: name}


def _generate_selector(spec: Document, generated: Mapping[str, str]) -> None:
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for key, value in generated.items():
        labels.setdefault(key, value)
    chosen = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    chosen.setdefault(_UID_LABEL, generated[_UID_LABEL])


def validate_job(document: Document) -> list[FieldError]:
    """Errors of a Job."""
    spec, metadata = document["spec"], document["metadata"]
    errors: list[FieldError] = []
    if not spec["manualSelector"]:
        errors += _check_generated(spec, _generated_labels(metadata))
    errors += _check_spec(spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
        errors.append(templates.does_not_match(spec))
    else:
        found = check_label_selector(selector, "spec.selector")
        errors += found
        if not found and not matches(selector, templates.template_labels(spec)):
            errors.append(templates.does_not_match(spec))
    if spec["completionMode"] == "Indexed" and spec.get("completions", 0) > 0:
        hostname = f"{metadata.get('name', '')}-{spec['completions'] - 1}"
        if dns_label(hostname):
            why = f"will not able to create pod with invalid DNS label: {hostname}"
            errors.append(invalid("metadata.name", metadata.get("name", ""), why))
    return errors


def _check_generated(spec: Document, generated: Mapping[str, str]) -> list[FieldError]:
    labels = templates.template_labels(spec)
    errors = [
        invalid(f"spec.template.metadata.labels[{key}]", labels, f"must be '{value}'")
        for key, value in generated.items()
        if labels.get(key) != value
    ]
    selector = spec.get("selector")
    if selector and not check_label_selector(selector, "") and not matches(selector, generated):
        errors.append(invalid("spec.selector", selector, "`selector` not auto-generated"))
    return errors


def _check_spec(spec: Document, path: str) -> list[FieldError]:
    errors = templates.check_not_negative(
        spec,
        path,
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    )
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    errors += _check_completion_mode(spec, path)
    replacement = spec.get("podReplacementPolicy")
    supported = ("Failed",) if spec.get("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in supported:
        errors.append(not_supported(f"{path}.podReplacementPolicy", replacement, supported))
    errors += templates.check_template(spec, path)
    errors += _check_restart_policy(spec, f"{path}.template.spec.restartPolicy")
    return errors


def _check_completion_mode(spec: Document, path: str) -> list[FieldError]:
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in ("NonIndexed", "Indexed"):
        return [not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))]
    errors: list[FieldError] = []
    if mode == "Indexed":
        if spec.get("completions") is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if spec.get("parallelism", 0) > _MAX_INDEXED_PARALLELISM:
            limit = (
                f"must be less than or equal to {_MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
            )
            errors.append(invalid(f"{path}.parallelism", spec["parallelism"], limit))
        failed, completions = spec.get("maxFailedIndexes"), spec.get("completions")
        if failed is not None and completions is not None and failed > completions:
            too_much = "must be less than or equal to completions"
            errors.append(invalid(f"{path}.maxFailedIndexes", failed, too_much))
    else:
        errors += [
            invalid(f"{path}.{key}", spec[key], "requires indexed completion mode")
            for key in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy")
            if spec.get(key) is not None
        ]
    return errors


def _check_restart_policy(spec: Document, path: str) -> list[FieldError]:
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy in (None, "", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") and policy != "Never":
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def validate_job_update(new: Document, old: Document) -> list[FieldError]:
    """What is for good: the template, the selector, and the completions but of elastic indexed Jobs."""
    after, before = new["spec"], old["spec"]
    errors = _check_completions_update(after, before)
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        # A Job that has not started may still be told where to run.
        after, before = _without_scheduling(after), _without_scheduling(before)
    return errors + templates.check_immutable(after, before, "spec", *_IMMUTABLE)


def _check_completions_update(after: Document, before: Document) -> list[FieldError]:
    if after["completionMode"] != "Indexed":
        return templates.check_immutable(after, before, "spec", "completions")
    completions = after.get("completions")
    if completions == before.get("completions") or completions == after["parallelism"]:
        return []
    return [
        invalid("spec.completions", completions, "can only be modified in tandem with spec.parallelism"),
    ]


def _without_scheduling(spec: Document) -> Document:
    """A Job's spec without what says where its pods run."""
    directives = ("nodeSelector", "tolerations", "affinity", "schedulingGates")
    template = spec["template"]
    pod_spec = {key: value for key, value in template["spec"].items() if key not in directives}
    return {**spec, "template": {"spec": pod_spec}}


def job_fields(document: Document) -> Mapping[str, str]:
    """What field selectors see."""
    return {"status.successful": str((document.get("status") or {}).get("succeeded", 0))}


def job_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get jobs`."""
    spec, status = document["spec"], document.get("status") or {}
    succeeded, parallelism = status.get("succeeded", 0), spec.get("parallelism", 0)
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif parallelism > 1:
        completions = f"{succeeded}/1 of {parallelism}"
    else:
        completions = f"{succeeded}/1"
    return [
        document["metadata"]["name"],
        _status_text(document),
        completions,
        _duration(status, now),
        cells.age(document, now),
        *templates.template_cells(spec),
    ]


def _status_text(document: Document) -> str:
    conditions = (document.get("status") or {}).get("conditions") or ()
    true = {condition["type"] for condition in conditions if condition.get("status") == "True"}
    if document["metadata"].get("deletionTimestamp"):
        true.add("")
    return next((text for kind, text in _STATUSES if kind in true), "Running")


def _duration(status: Document, now: float) -> str:
    if not status.get("startTime"):
        return ""
    completed = status.get("completionTime")
    end = cells.seconds_since_epoch(completed) if completed else now
    return cells.duration(end - cells.seconds_since_epoch(status["startTime"]))


# --- CronJob ---


def default_cron_job(document: Document) -> None:
    """Defaults of batch/v1 CronJob."""
    spec = document.setdefault("spec", {})
    templates.default_template(spec.setdefault("jobTemplate", {}).setdefault("spec", {}))
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    document.setdefault("status", {})


def validate_cron_job(document: Document) -> list[FieldError]:
    """Errors of a CronJob."""
    spec = document["spec"]
    errors = _check_schedule(spec)
    errors += templates.check_not_negative(spec, "spec", "startingDeadlineSeconds")
    errors += _check_time_zone(spec.get("timeZone"))
    policies = ("Allow", "Forbid", "Replace")
    if spec["concurrencyPolicy"] not in policies:
        errors.append(not_supported("spec.concurrencyPolicy", spec["concurrencyPolicy"], policies))
    job, path = spec["jobTemplate"]["spec"], "spec.jobTemplate.spec"
    errors += _check_spec(job, path)
    if job.get("selector") is not None:
        errors.append(invalid(f"{path}.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        errors.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    errors += templates.check_not_negative(
        spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    name = document["metadata"].get("name", "")
    if len(name) > _MAX_CRON_NAME:
        errors.append(invalid("metadata.name", name, f"must be no more than {_MAX_CRON_NAME} characters"))
    return errors


def _check_schedule(spec: Document) -> list[FieldError]:
    schedule = spec.get("schedule", "")
    if not schedule:
        return [required("spec.schedule")]
    errors: list[FieldError] = []
    if wrong := check_schedule(schedule):
        errors.append(invalid("spec.schedule", schedule, wrong))
    if "TZ" in schedule:
        instead = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, instead))
    return errors


def _check_time_zone(zone: str | None) -> list[FieldError]:
    if zone is None:
        return []
    if not zone:
        return [invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        explicit = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid("spec.timeZone", zone, explicit)]
    return [] if is_time_zone(zone) else [invalid("spec.timeZone", zone, f"unknown time zone {zone}")]


def cron_job_cells(document: Document, now: float) -> list[Any]:
    """A row of `kubectl get cronjobs`."""
    spec, status = document["spec"], document.get("status") or {}
    last = status.get("lastScheduleTime")
    return [
        document["metadata"]["name"],
        spec.get("schedule", ""),
        spec.get("timeZone") or cells.NONE,
        {True: "True", False: "False"}.get(spec.get("suspend"), cells.UNSET),
        len(status.get("active") or ()),
        cells.since(last, now) if last else cells.NONE,
        cells.age(document, now),
        *templates.template_cells(spec["jobTemplate"]["spec"]),
    ]
