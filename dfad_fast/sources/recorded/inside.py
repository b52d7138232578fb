"""What a record is about, read in the teacher while images are shown to it."""

from __future__ import annotations

from contextlib import ExitStack

from torch import Tensor, nn

from dfad_fast.checksum import checksum
from dfad_fast.errors import UsageError
from dfad_fast.models.ensemble import named_members
from dfad_fast.models.reading.check import example_images
from dfad_fast.models.reading.last_layer import record_last_features
from dfad_fast.models.reading.taps import Taps, named_taps
from dfad_fast.networks.probing import Prober
from dfad_fast.ops import batch_norm_statistics_loss
from dfad_fast.precision import at_least_float32
from dfad_fast.sources.recorded.record import Record


class Inside:
    """Shows images to the teacher of ``prober``, or in an ensemble to its first member alone, and reads there.

    ``with_layers``: whether the stages are read too. Raises UsageError where ``record`` is of another teacher.
    """

    def __init__(self, prober: Prober, record: Record, with_layers: bool) -> None:
        self._record = record
        self._with_layers = with_layers
        _, teacher = named_members(prober.trio.teacher)[0]
        _refuse_other(teacher, prober.trio.image_shape, record)
        # The folded copy has the same last layer, and other features on the way.
        _, shown = named_members(prober.trio.teacher if with_layers else prober.quick_teacher)[0]
        self._network = shown
        self._taps = Taps(shown, [])
        if with_layers:
            if not record.layers:
                raise UsageError(
                    "the record has no stages, since none was found in its teacher: set layers to 0"
                )
            example = example_images(shown, prober.trio.image_shape)
            self._taps = Taps(shown, named_taps(shown, example, record.about.taps))
        self._ask = prober.asker(graph=True, unfolded=with_layers, hooked=True, of=shown)
        self._running = [layer.to(prober.device).unbind() for layer in record.layers]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D] of the last layer's input, and how far the stages' statistics are from the recorded ones."""
        with ExitStack() as stack:
            last = stack.enter_context(record_last_features(self._network, self._record.about.last_layer))
            stages = stack.enter_context(self._taps.record())
            self._ask(images)
        features = at_least_float32(last[0])
        if not self._with_layers:
            return features, features.new_zeros(())
        means, variances = zip(*self._running, strict=True)
        shown = [at_least_float32(stage) for stage in stages]
        return features, batch_norm_statistics_loss(shown, list(means), list(variances))


def _refuse_other(teacher: nn.Module, image_shape: tuple[int, int, int], record: Record) -> None:
    about = record.about
    if about.image_shape != image_shape:
        raise UsageError(
            f"the record is for images {list(about.image_shape)}, but the teacher takes {list(image_shape)}: use the "
            "record of this teacher"
        )
    if about.teacher != checksum(teacher.state_dict()):
        raise UsageError(
            "the record is for other teacher weights: use the record of this teacher, which dfad-fast record writes "
            "where its data is"
        )
