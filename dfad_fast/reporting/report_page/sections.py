"""The run's results in one sentence, in a few figures and in a table; its settings and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfad_fast.data.defaults import DEFAULTS
from dfad_fast.engine.best import BY_ACCURACY
from dfad_fast.reporting.report_page.numbers import count, decimal, duration, percent
from dfad_fast.runs.record import Record, is_number
from dfad_fast.runs.summary import Summary
from dfad_fast.terminal import quoted

_SHOWN_LINES = 40  # lines of a traceback


def headline(record: Record) -> dict[str, Any]:
    """What the page says first, for the template."""
    status, sentence = _end(record)
    summary = record.summary
    method = summary.method if summary else record.config.get("method")
    seed = summary.seed if summary else record.config.get("seed")
    written = [checkpoint.written for checkpoint in record.checkpoints]
    return {
        "name": record.folder.resolve().name,
        "status": status,
        "sentence": sentence,
        "method": method or "unknown method",
        "seed": seed,
        "networks": [_network(record, which) for which in ("teacher", "student")],
        "ended": f"{max(written):%Y-%m-%d %H:%M} UTC" if written else None,
        "resume": f"dfad-fast resume {quoted(record.folder)}"
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
            f"{reached}, and no end was recorded: the run was killed, or is still running.",
        )
    if planned is not None and iteration is not None and iteration < planned:
        return "interrupted", f"The run was interrupted {at}{of}. This page shows the results up to then."
    return "finished", (
        f"The run finished all {count(iteration)} iterations in {duration(record.summary.seconds_distill)}, "
        f"on {count(record.summary.generated_images)} generated images{_of_whom(record.summary)}."
    )


def _of_whom(summary: Summary) -> str:
    asked, shown = summary.teacher_passes, summary.student_passes
    passes = (
        f", with {count(asked)} through the teacher and {count(shown)} through the student"
        if is_number(asked) and is_number(shown)
        else ""
    )
    return passes if summary.data_free is False else f"{passes}; no real image was used for it"


def _network(record: Record, which: str) -> str:
    """The network's name on the command line, or its default there."""
    told = record.config.get("distill")
    if not isinstance(told, dict):
        return which
    default = DEFAULTS.get(str(told.get("dataset")))
    name = str(told.get(which) or (getattr(default, which) if default else which))
    ensemble = record.config.get("ensemble") if which == "teacher" else None
    return f"{name}, {ensemble.get('members')} of them" if isinstance(ensemble, dict) else name


def failure(record: Record) -> str | None:
    """The end of the traceback, if it says more than the headline."""
    lines = record.traceback.strip().splitlines()
    return "\n".join(lines[-_SHOWN_LINES:]) if len(lines) > 1 else None


def figures(record: Record) -> list[dict[str, str]]:
    """The most important figures as label, value and note; without a summary, those of the last record."""
    summary = record.summary
    last = {name: value for kept in record.history for name, value in kept.items()}
    found = _quality(None if record.summary_is_old else summary, last)
    if summary and summary.teacher_parameters and summary.student_parameters and summary.size_ratio:
        parameters = f"{count(summary.student_parameters)} of {count(summary.teacher_parameters)}"
        found.append(_figure("Student's size", f"{100 * summary.size_ratio:.0f} %", parameters))
    images = last.get("generated_images", summary.generated_images if summary else None)
    iterations = f"in {count(record.iteration)} iterations"
    found.append(_figure("Generated images", count(images), iterations))
    seconds = last.get("seconds", summary.seconds_distill if summary else None)
    found.append(_figure("Time of distillation", duration(seconds), str(summary.device if summary else "")))
    return found


def _quality(summary: Summary | None, last: dict[str, Any]) -> list[dict[str, str]]:
    """The student's quality from the summary, or from the last recorded values."""
    if summary and summary.student_accuracy_final is not None:
        teacher = f"teacher {percent(summary.teacher_accuracy)}"
        return [
            _figure("Student's accuracy", percent(summary.student_accuracy_final), teacher),
            _figure("Agreement", percent(summary.agreement_final), "with the teacher, test images"),
        ]
    if "student_accuracy" in last:
        return [
            _figure("Student's accuracy", percent(last["student_accuracy"]), "at the last evaluation"),
            _figure("Agreement", percent(last.get("agreement")), "with the teacher, test images"),
        ]
    if summary:
        agreement, discrepancy = percent(summary.agreement_generated), decimal(summary.discrepancy_generated)
        found = [
            _figure("Agreement", agreement, "with the teacher, held-out generated images"),
            _figure("Discrepancy", discrepancy, "mean L1 of the logits, same images"),
        ]
        if summary.classes_generated is not None:
            known = f"of {count(summary.classes)} that the teacher knows, same images"
            found.append(_figure("Classes", count(summary.classes_generated), known))
        return found
    if "agreement_batch" in last:
        agreement = percent(last["agreement_batch"])
        return [_figure("Agreement", agreement, "with the teacher, last generated batch")]
    return []


def _figure(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def summary_table(record: Record) -> dict[str, Any] | None:
    """Rows of (name, teacher's value, student's value), as on the command line."""
    summary = record.summary
    if not summary:
        return None
    return {
        "rows": [
            *_rows_on_test_images(summary),
            *_rows_on_generated_images(summary),
            *_rows_on_start(summary.student_start),
        ],
        "iteration": count(summary.iterations),
        "old": record.summary_is_old,
        "notices": [str(notice) for notice in summary.notices],
    }


_Row = tuple[str, str, str]


def _rows_on_test_images(summary: Summary) -> list[_Row]:
    rows = [("Parameters", count(summary.teacher_parameters), count(summary.student_parameters))]
    if summary.queries is not None:
        rows.append(("Images sent to the black box", count(summary.queries), ""))
    if summary.student_accuracy_final is None:
        return rows
    teacher, final = percent(summary.teacher_accuracy), percent(summary.student_accuracy_final)
    rows.append(("Test accuracy, final", teacher, final))
    kept = summary.keeps_most_accurate
    highest = "best (chosen on the test images)" if kept else "highest at an evaluation, not kept"
    rows.append((f"Test accuracy, {highest}", "", percent(summary.student_accuracy_best)))
    if summary.student_accuracy_deviation is not None:
        moved = f"± {percent(summary.student_accuracy_deviation)}"
        rows.append(("Test accuracy, standard deviation in the last third of the run", "", moved))
    averaged = {"final": summary.averaged_accuracy_final, "best": summary.averaged_accuracy_best}
    for which, accuracy in averaged.items():
        if accuracy is not None:
            rows.append((f"Test accuracy of the averaged student, {which}", "", percent(accuracy)))
    rows.append(("Agreement, test images", "", percent(summary.agreement_final)))
    return rows


def _rows_on_generated_images(summary: Summary) -> list[_Row]:
    rows = [
        ("Agreement, held-out generated images", "", percent(summary.agreement_generated)),
        ("Discrepancy, held-out generated images", "", decimal(summary.discrepancy_generated)),
    ]
    if summary.classes_generated is not None:
        seen, classes = count(summary.classes_generated), count(summary.classes)
        effective = decimal(summary.effective_classes_generated)
        rows.append(
            ("Classes that the teacher sees in these", f"{seen} of {classes} (effectively {effective})", "")
        )
        rows.append(("Variety of these images (0: all alike)", decimal(summary.variety_generated), ""))
    if best := summary.best_student:
        rows.append(
            (f"Best student, iteration {count(best.iteration)}, by {best.by}", "", percent(best.value))
        )
        if best.accuracy is not None and best.by != BY_ACCURACY:
            rows.append(("Its test accuracy", "", percent(best.accuracy)))
    for stage, value in summary.sign_agreement_generated.items():
        rows.append((f"Sign agreement, {stage}", "", percent(value)))
    return rows


def _rows_on_start(start: Mapping[str, Any]) -> list[_Row]:
    """How the student was initialized, if the run recorded it."""
    if not start:
        return []
    if not start.get("from_teacher"):
        return [("Student's initialization", "", f"as given, {start.get('reason')}")]
    agreement = f"Agreement before the first step, {count(start.get('images'))} drawn images"
    return [
        ("Student's parameters initialized from the teacher's", "", percent(start.get("share"))),
        (agreement, "", percent(start.get("agreement"))),
    ]


def settings(record: Record) -> dict[str, Any] | None:
    """The command that repeats the run, the minimized terms, and the text of config.yaml."""
    if not record.config:
        return None
    terms = record.config.get("terms")
    return {
        "repeat": record.config.get("repeat"),
        "terms": [(network, list(terms[network])) for network in terms] if isinstance(terms, dict) else [],
        "text": record.config_text,
    }


def environment(record: Record) -> list[tuple[str, str]]:
    """The environment of the run, and what had changed when it was resumed."""
    summary = record.summary
    versions = summary.versions if summary else None
    rows = [
        ("Device", summary.device if summary else None),
        ("CPU threads", summary.threads if summary else record.config.get("threads")),
        *dict(versions or record.config.get("versions") or {}).items(),
    ]
    for change in record.config.get("changes") or []:
        told = {name: value for name, value in change.items() if name != "at_iteration"}
        rows.append((f"Changed at iteration {count(change.get('at_iteration'))}", told))
    return [(str(name), str(value)) for name, value in rows if value is not None]
