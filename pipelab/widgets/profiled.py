"""Settings of a lab where a profile is at hand: memory in bytes is that of the profiled model."""

from dataclasses import dataclass, replace

from ..errors import UsageError
from ..layout import Profile
from ..layout.memory import stage_memory
from ..simulator import Memory
from ..simulator.costs import PerStage
from .settings import Settings


@dataclass(frozen=True)
class Profiled(Settings):
    """Settings whose bytes are measured ones: of a profiled model that is cut evenly, with Adam.

    Attributes:
        profile: of the layers.
        batch: samples of the batch that is held with hold="batch"; with hold="microbatch" a
            micro-batch is as large as that of the profile.
    """

    profile: Profile | None = None
    batch: int = 0

    def _stage_memory(self, stages: int) -> Memory:
        """The bytes of each stage, for a micro-batch of these settings."""
        profile = self.profile
        if profile is None:
            return super()._stage_memory(stages)
        layers = len(profile.layers)
        if stages > layers:
            raise UsageError(
                f"{stages} stages are more than the {layers} layers of the profile: take fewer "
                "ranks, or fewer stages per rank."
            )
        low, more = divmod(layers, stages)
        memory = stage_memory(profile, [low + (stage < more) for stage in range(stages)])
        share = 1.0
        if self.one_batch:
            share = self.batch / self.microbatches / profile.microbatch

        def scaled(value: PerStage) -> list[float]:
            values = [value] if isinstance(value, int | float) else value
            return [share * one for one in values]

        return replace(
            memory,
            activations=scaled(memory.activations),
            inputs=scaled(memory.inputs),
            deferred_activations=scaled(memory.deferred_activations or 0),
            deferred_gradients=scaled(memory.deferred_gradients),
        )
