"""The start of a run over several processes: same task, same initial weights, separate global randomness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfad_fast.checksum import checksum
from dfad_fast.distributed import collectives, processes
from dfad_fast.engine.global_randomness import differ_between_processes
from dfad_fast.environment import versions
from dfad_fast.networks.trio import Trio


def meet(networks: Trio, settings: Mapping[str, Any], facts: Mapping[str, object]) -> None:
    """Synchronizes the processes of a run.

    Raises UsageError in every process if the teacher's weights, ``settings``, versions, networks or ``facts`` differ
    between them.
    """
    if processes.count() == 1:
        return
    processes.meet()
    trained = (networks.student, networks.generator, *networks.beside_student)
    collectives.refuse_differences(
        {
            # Each process holds a different part of a sharded teacher.
            "the teacher's weights": None
            if networks.teacher_is_sharded
            else checksum(networks.teacher.state_dict()),
            "settings": repr({**settings, "versions": versions()}),
            **facts,
            "networks": [[str(module), [list(p.shape) for p in module.parameters()]] for module in trained],
        }
    )
    collectives.copy_from_first(*trained)
    differ_between_processes()
