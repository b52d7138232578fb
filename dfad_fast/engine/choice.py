"""Which method a run uses, by name or by what its networks allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.methods import DFAD, DFAD_AR, DFAD_AR_VI_BN, DFME, METHODS, Method, for_hard_labels
from dfad_fast.models.black_box import BlackBoxTeacher
from dfad_fast.models.reading.batch_norm import batch_norm_layers
from dfad_fast.networks.trio import Trio
from dfad_fast.networks.validation import refuse_unmixable_stage
from dfad_fast.sources import Fresh, GeneratorsBatch, SourceSpec, as_source
from dfad_fast.terms import TERMS, Term, Weighted, parse_terms, reads_student

Terms = str | Sequence[Weighted]
"""Rows of a table, or the same as text."""


def choose_method(
    method: str | Method,
    networks: Trio,
    student_terms: Terms | None = None,
    generator_terms: Terms | None = None,
    source: str | SourceSpec = "auto",
    student_steps: int | None = None,
) -> Method:
    """The method by its name, with terms, source and steps replaced if given.

    ``auto`` as method depends on the networks, ``auto`` as source is the method's own. The generator's terms are left
    out if nothing minimizes them. The generator's warm-up is left out if the source reinitializes the generator, which
    would discard the warm-up's effect.

    The method ``auto`` is ``dfad-ar-vi-bn`` for a teacher with batch norm layers and ``dfad-ar`` for one without,
    since virtual samples do badly if no batch norm statistics constrain the generator. If no stage of the student
    matches one of the teacher, the activation regularizer is dropped: ``dfad-vi-bn`` and ``dfad``.

    Raises UsageError for an unknown name, for terms and sources that cannot be parsed, for a method that reads batch
    norm statistics the teacher does not have, and for one that reads features if none match.
    """
    method = _by_name(method, networks)
    if isinstance(networks.teacher, BlackBoxTeacher) and networks.teacher.gives_labels:
        method = for_hard_labels(method)
    if student_terms is not None:
        method = replace(method, student=_rows(student_terms))
    if generator_terms is not None:
        method = replace(method, generator=_rows(generator_terms))
    if source != "auto":
        method = replace(method, batches=as_source(source))
    if student_steps is not None:
        method = replace(method, student_steps=student_steps)
    trained = method.source_spec.generating
    if not trained:
        method = replace(method, warm_up=0.0)
    if not method.source_spec.minimizing:
        method = replace(method, generator=(), generator_steps=0)
    if any(part.begins_generator for part in trained):
        _refuse_others(trained)
        method = replace(method, warm_up=0.0)
    if networks.teacher_is_black_box:
        _refuse_more_than_answers(method)
    if method.reads_statistics and not batch_norm_layers(networks.teacher):
        raise UsageError(
            f"method {method.name!r} reads the statistics of batch norm layers and this teacher has none: "
            "choose 'dfad-ar' or 'auto'"
        )
    if method.reads_attention and not networks.attention:
        raise UsageError(
            f"method {method.name!r} reads what attention modules return, and this teacher has none that gives tokens "
            "of the image's patches: choose 'tv-inversion', or generator terms without patch_entropy"
        )
    if method.reads_features and not networks.tap_pairs:
        raise UsageError(
            f"method {method.name!r} compares features, but {networks.matching.describe_mismatch()}"
        )
    if method.reads_last_stage and networks.matching.last_stage is None:
        raise UsageError(
            f"method {method.name!r} reads the teacher's last stage, but no stage was found in it: choose terms that "
            "read no features"
        )
    _check_tables(method, networks)
    return method


def source_of(method: str | Method, source: str | SourceSpec = "auto") -> SourceSpec:
    """The source that :func:`choose_method` will use, before there are networks.

    Does not check the method's name; raises UsageError for a method of another type.
    """
    if source != "auto":
        return as_source(source)
    if not isinstance(method, str | Method):
        raise UsageError(f"method must be a name or a dfad_fast.methods.Method, got {method!r}")
    known = METHODS.get(method) if isinstance(method, str) else method
    return Fresh() if known is None else known.source_spec


def _refuse_more_than_answers(method: Method) -> None:
    """Raises UsageError for a method that needs more than a black-box teacher's answers."""
    needs = None
    for part in method.source_spec.walk():
        if part.needs_teacher_gradient:
            needs = f"gradients through the teacher (its source {part.name} does)"
    if method.reads_statistics:
        needs = "the statistics of the teacher's batch norm layers"
    if method.reads_last_stage or method.reads_attention:
        needs = "the teacher's features"
    if needs:
        raise UsageError(
            f"method {method.name!r} needs {needs}, but a black box gives only its answers: choose dfme or maze, or a "
            "source that trains no generator, such as --source procedural with --student-terms kl"
        )


def _refuse_others(trained: Sequence[SourceSpec]) -> None:
    """Raises UsageError if one source would undo what another teaches the generator."""
    if len(trained) > 1:
        alone = next(part.name for part in trained if part.begins_generator)
        names = " and ".join(part.name for part in trained)
        otherwise = ", or choose restart=none" if alone == "restarted" else ""
        raise UsageError(
            f"{alone} trains the run's generator by itself, so no other source can train it too, got {names}: leave "
            f"one out{otherwise}"
        )


def _check_tables(method: Method, networks: Trio) -> None:
    """Checks both sides' terms before the run's folder is created, not in the first step."""
    for side, rows, steps in (
        ("student", method.student, method.student_steps),
        ("generator", method.generator, method.generator_steps),
    ):
        if steps and not rows:
            raise UsageError(f"method {method.name!r}: the {side} has steps but no term: give it one")
        for row in rows if steps else ():
            _refuse_unread(row.term, side, method, networks)
            row.term.check(networks.matching.shapes)
            apart = any(part.tells_images_apart for part in method.source_spec.generating)
            if side == "generator" and apart and not row.term.gives_images_apart:
                raise UsageError(
                    f"{row.term.name} gives no value per image, which the source estimated needs: "
                    "choose l1, kl or cross_entropy for the generator"
                )
            if row.term.student_stage is not None:
                refuse_unmixable_stage(networks.student, row.term.student_stage, networks.image_shape)
    if method.student_steps and not reads_student(method.student):
        raise UsageError(
            f"method {method.name!r}: none of the student's terms reads the student's answers: give it one that does, "
            "such as l1 or kl"
        )


def _refuse_unread(term: Term, side: str, method: Method, networks: Trio) -> None:
    """Raises UsageError if ``term`` reads something that one of the generator's steps does not provide."""
    minimizing = method.source_spec.minimizing
    if method.warm_up:
        minimizing.append(GeneratorsBatch())
    labeled = networks.is_conditional or all(part.gives_labels for part in minimizing)
    if term.reads_labels and (side == "student" or not labeled):
        raise UsageError(
            f"{term.name} reads the labels of a conditional generator's images in the generator's phase: "
            "leave it out of the student's terms, and choose --generator conditional (in Python generator=), or a "
            "source that has labels, such as restarted or inverted"
        )
    if term.reads_contrast and (side == "student" or not all(part.gives_contrast for part in minimizing)):
        raise UsageError(
            f"{term.name} compares a generator's images with earlier ones, which the source has to keep: leave it "
            "out of the student's terms, and choose restarted with features, as in restarted(features=4096)"
        )
    if term.reads_attention and side == "student":
        raise UsageError(
            f"{term.name} judges images and not the student: leave it out of the student's terms, and give it to the "
            "generator"
        )
    if term.module_lr is not None and side == "generator":
        raise UsageError(
            f"{term.name} learns at a rate of its own, in the student's steps: leave it out of the generator's terms"
        )
    if term.reads_decoded and (side == "student" or not all(part.decodes for part in minimizing)):
        raise UsageError(
            f"{term.name} compares a generator's noise with what a decoder reads out of its images: leave it out of "
            "the student's terms, and choose a source with decoders, such as trained_first"
        )


def _rows(terms: Terms) -> tuple[Weighted, ...]:
    if isinstance(terms, str):
        return parse_terms(terms, TERMS)
    rows = tuple(terms) if isinstance(terms, Iterable) else (terms,)
    if not all(isinstance(row, Weighted) for row in rows):
        raise UsageError(
            f"terms must be text such as 'l1 + 0.1*boundary' or rows of dfad_fast.terms.Weighted, got {terms!r}"
        )
    return rows


def _by_name(method: str | Method, networks: Trio) -> Method:
    if method == "auto":
        if networks.teacher_is_black_box:
            return DFME
        if batch_norm_layers(networks.teacher):
            return DFAD_AR_VI_BN if networks.tap_pairs else _without_features(DFAD_AR_VI_BN)
        return DFAD_AR if networks.tap_pairs else DFAD
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown_name("method", method, ["auto", *METHODS])
        return METHODS[method]
    return method


def _without_features(method: Method) -> Method:
    return replace(
        method,
        name=method.name.replace("-ar", ""),
        student=tuple(row for row in method.student if not row.term.reads_features),
    )
