"""What happened, in one sentence and a few figures."""

from __future__ import annotations

import shlex
from typing import Any

from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.reporting.report_page.wording import count, decimal, duration, percent
from dfad_fast.runs.record import Record

_SHOWN_LINES = 40  # of a traceback


def headline(record: Record) -> dict[str, Any]:
    status, sentence = _end(record)
    method = record.summary.get("method", record.config.get("method"))
    seed = record.summary.get("seed", record.config.get("seed"))
    written = [checkpoint.written for checkpoint in record.checkpoints]
    return {
        "name": record.folder.resolve().name,
        "status": status,
        "sentence": sentence,
        "method": method or "unknown method",
        "seed": seed,
        "networks": [_network(record, which) for which in ("teacher", "student")],
        "ended": f"{max(written):%Y-%m-%d %H:%M} UTC" if written else None,
        "resume": f"dfad-fast resume {shlex.quote(str(record.folder))}"
        if status != "finished" and record.checkpoints and "distill" in record.config
        else None,
    }


def _end(record: Record) -> tuple[str, str]:
    iteration, planned = record.iteration, record.planned_iterations
    at = f"at iteration {count(iteration)}"
    of = f" of {count(planned)}" if iteration is not None and planned else ""
    if record.traceback.strip():
        reason = record.traceback.strip().splitlines()[-1]
        reached = "nothing was recorded before" if iteration is None else f"the last record is {at}{of}"
        return "failed", f"The run failed; {reached}. {reason}"
    if not record.summary or record.summary_is_old:
        reached = "Nothing was recorded yet" if iteration is None else f"The last record is {at}{of}"
        return (
            "no end recorded",
            f"{reached}, and no end was recorded: the run was killed, or is still going.",
        )
    if planned is not None and iteration is not None and iteration < planned:
        return "interrupted", f"The run was interrupted {at}{of}. What came until then is shown."
    return "finished", (
        f"The run finished all {count(iteration)} iterations in {duration(record.summary.get('seconds_distill'))}, "
        f"on {count(record.summary.get('generated_images'))} generated images; no real image was used for it."
    )


def _network(record: Record, which: str) -> str:
    """As the command line named it, or by what it stands for there."""
    told = record.config.get("distill")
    if not isinstance(told, dict):
        return which
    default = DEFAULTS.get(str(told.get("dataset")))
    return str(told.get(which) or (getattr(default, which) if default else which))


def failure(record: Record) -> str | None:
    """The end of the traceback, where there is more than the headline says."""
    lines = record.traceback.strip().splitlines()
    return "\n".join(lines[-_SHOWN_LINES:]) if len(lines) > 1 else None


def figures(record: Record) -> list[dict[str, str]]:
    """The few that matter most, as label, value and note; of a run without a summary those of its last record."""
    summary = record.summary
    last = {name: value for kept in record.history for name, value in kept.items()}
    found = []
    if summary.get("student_accuracy_final") is not None and not record.summary_is_old:
        accuracy, agreement = summary["student_accuracy_final"], summary.get("agreement_final")
        teacher = f"teacher {percent(summary.get('teacher_accuracy'))}"
        found.append(_figure("Student's accuracy", percent(accuracy), teacher))
        found.append(_figure("Agreement", percent(agreement), "with the teacher, test images"))
    elif "student_accuracy" in last:
        found.append(
            _figure("Student's accuracy", percent(last["student_accuracy"]), "at the last evaluation")
        )
        agreement = percent(last.get("agreement"))
        found.append(_figure("Agreement", agreement, "with the teacher, test images"))
    elif summary and not record.summary_is_old:
        agreement = percent(summary.get("agreement_generated"))
        found.append(_figure("Agreement", agreement, "with the teacher, held-out generated images"))
        discrepancy = decimal(summary.get("discrepancy_generated"))
        found.append(_figure("Discrepancy", discrepancy, "mean L1 of the logits, same images"))
        if summary.get("classes_generated") is not None:
            of = f"of {count(summary.get('classes'))} that the teacher knows, same images"
            found.append(_figure("Classes", count(summary["classes_generated"]), of))
    elif "agreement_batch" in last:
        agreement = percent(last["agreement_batch"])
        found.append(_figure("Agreement", agreement, "with the teacher, last generated batch"))
    if summary.get("teacher_parameters") and summary.get("student_parameters"):
        of, parameters = summary["teacher_parameters"], summary["student_parameters"]
        found.append(
            _figure("Student's size", f"{100 * parameters / of:.0f} %", f"{count(parameters)} of {count(of)}")
        )
    images = last.get("generated_images", summary.get("generated_images"))
    iterations = f"in {count(record.iteration)} iterations"
    found.append(_figure("Generated images", count(images), iterations))
    seconds = last.get("seconds", summary.get("seconds_distill"))
    found.append(_figure("Time of distillation", duration(seconds), str(summary.get("device", ""))))
    return found


def _figure(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def summary_table(record: Record) -> dict[str, Any] | None:
    """Rows of what, teacher, student, as the command line prints them."""
    summary = record.summary
    if not summary:
        return None
    rows = [
        ("Parameters", count(summary.get("teacher_parameters")), count(summary.get("student_parameters")))
    ]
    if summary.get("teacher_accuracy") is not None:
        final, best = summary.get("student_accuracy_final"), summary.get("student_accuracy_best")
        rows.append(("Test accuracy, final", percent(summary["teacher_accuracy"]), percent(final)))
        rows.append(("Test accuracy, best (chosen on the test images)", "", percent(best)))
        for which in ("final", "best"):
            if (averaged := summary.get(f"averaged_accuracy_{which}")) is not None:
                rows.append((f"Test accuracy of the averaged student, {which}", "", percent(averaged)))
        rows.append(("Agreement, test images", "", percent(summary.get("agreement_final"))))
    rows.append(("Agreement, held-out generated images", "", percent(summary.get("agreement_generated"))))
    rows.append(("Discrepancy, held-out generated images", "", decimal(summary.get("discrepancy_generated"))))
    if summary.get("classes_generated") is not None:
        seen, classes = count(summary["classes_generated"]), count(summary.get("classes"))
        effective = decimal(summary.get("effective_classes_generated"))
        rows.append(
            ("Classes that the teacher sees in these", f"{seen} of {classes} (effectively {effective})", "")
        )
        rows.append(("Variety of these images (0: all alike)", decimal(summary.get("variety_generated")), ""))
    if best_student := summary.get("best_student"):
        iteration, by = count(best_student["iteration"]), best_student["by"]
        rows.append((f"Best student, iteration {iteration}, by {by}", "", percent(best_student["value"])))
    for stage, value in dict(summary.get("sign_agreement_generated") or {}).items():
        rows.append((f"Sign agreement, {stage}", "", percent(value)))
    return {
        "rows": rows,
        "iteration": count(summary.get("iterations")),
        "old": record.summary_is_old,
        "notices": [str(notice) for notice in summary.get("notices") or []],
    }


def settings(record: Record) -> dict[str, Any] | None:
    """The command that repeats the run, what was minimised, and config.yaml as it is."""
    if not record.config:
        return None
    terms = record.config.get("terms")
    return {
        "repeat": record.config.get("repeat"),
        "terms": [(phase, list(terms[phase])) for phase in terms] if isinstance(terms, dict) else [],
        "text": record.config_text,
    }


def environment(record: Record) -> list[tuple[str, str]]:
    """What the run ran on, and what was another thing when it was resumed."""
    rows = [
        ("Device", record.summary.get("device")),
        ("CPU threads", record.summary.get("threads", record.config.get("threads"))),
        *dict(record.summary.get("versions") or record.config.get("versions") or {}).items(),
    ]
    for change in record.config.get("changes") or []:
        told = {name: value for name, value in change.items() if name != "at_iteration"}
        rows.append((f"Changed at iteration {count(change.get('at_iteration'))}", told))
    return [(str(name), str(value)) for name, value in rows if value is not None]
