"""The program that an imported member comes from, and how that program predicts."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True)
class Source:
    """The origin of an imported member."""

    program: str
    """As text for readers: `nnU-Net v2`, `MONAI DynUNet`."""
    model: str
    """The model's name there; for nnU-Net: data set, trainer, plans and configuration."""
    fold: str
    sha256: str
    """Of the checkpoint."""
    description_sha256: str
    """Of the model's description, which its folds share; of the checkpoint if there is none."""
    rule: str
    """How probabilities become labels, a `Rule` of `brats_infer.tasks`."""
    threshold: float = 0.5
    """Voxels of a higher probability belong to a region."""
    nnunet_windows: bool = False
    """Whether windows lie as nnU-Net places them: on the brain's box alone; mirror images are averaged in each."""
    mirrored_axes: tuple[int, ...] = (0, 1, 2)
    """Axes that `--flips` mirrors."""
    reversed_axes: tuple[int, ...] = ()
    """Axes along which the network expects its input in the opposite direction."""

    @property
    def model_of_folds(self) -> "Source":
        """Equal for the folds of one model, whose logits are averaged."""
        return replace(self, fold="", sha256="")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_json`. Raises TypeError or ValueError on any other input."""
        axes = {name: tuple(values.get(name, getattr(cls, name))) for name in ("mirrored_axes", "reversed_axes")}
        source = cls(**{**values, **axes})
        for option in fields(cls):
            kind = option.type if option.type in (str, bool, float) else tuple
            if type(getattr(source, option.name)) is not kind:
                raise TypeError(f"{option.name} of a source must be of another type")
        if any(axis not in (0, 1, 2) for each in axes.values() for axis in each):
            raise ValueError("axes of a source are 0, 1 and 2")
        return source
