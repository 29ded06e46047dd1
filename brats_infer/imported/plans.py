"""nnU-Net's plans.json: the network, its input and its windows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brats_infer.image.normalise import Normalisation
from brats_infer.imported.unfit import UnfitError
from model.config import Sides, UNetConfig

SPACING_TOLERANCE = 0.01  # mm
PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
NORM = "InstanceNorm3d"
SLOPE = 0.01
UNUSED = ("dropout_op", "dropout_op_kwargs", "deep_supervision", "conv_op", "norm_op", "nonlin", "nonlin_kwargs")
READERS = {"SimpleITKIO": (), "NibabelIO": (), "NibabelIOWithReorient": (0, 1)}
"""{class that reads images: axes that it reverses against left, back and top}."""


@dataclass(frozen=True)
class Plan:
    """What a member needs of the plans."""

    network: UNetConfig
    """With axes in the order of the source, one output and no background."""
    axes: Sides
    """The source's axis of each of ours."""
    patch: Sides
    """Along our axes."""
    normalisation: Normalisation
    reversed_axes: tuple[int, ...]

    def turned(self, network: UNetConfig) -> UNetConfig:
        """A network of the source along our axes."""
        names = ("kernels", "strides", "decoder_kernels")
        changed = {name: tuple(self._turned(sides) for sides in getattr(network, name)) for name in names}
        return UNetConfig(**{**vars(network), **changed})

    def _turned(self, sides: Sequence[int]) -> Sides:
        x, y, z = (sides[axis] for axis in self.axes)
        return x, y, z

    def own_axis(self, axis: int) -> int:
        """Our axis of an axis of the source."""
        return self.axes.index(axis)


def plan_of(plans: Mapping[str, Any], name: str) -> Plan:
    """The plan of a configuration. Raises UnfitError."""
    try:
        return _plan_of(plans, name)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise UnfitError(f"do not describe the configuration {name} ({type(error).__name__}: {error})") from error


def _plan_of(plans: Mapping[str, Any], name: str) -> Plan:
    configuration = _resolved(plans["configurations"], name)
    if previous := configuration.get("previous_stage"):
        raise UnfitError(f"make {name} the second stage of a cascade after {previous}: import the single stages")
    patch, spacing = configuration["patch_size"], configuration["spacing"]
    if len(patch) != 3:
        raise UnfitError(f"make {name} a network of {len(patch)} axes: import a 3d configuration")
    if any(abs(mm - 1) > SPACING_TOLERANCE for mm in spacing):
        sizes = " x ".join(f"{mm:g}" for mm in spacing)
        raise UnfitError(f"resample to {sizes} mm: a member works at 1 mm, import 3d_fullres of data at 1 mm")
    reader = plans.get("image_reader_writer", "SimpleITKIO")
    if reader not in READERS:
        raise UnfitError(f"read images with {reader}, whose axes are unknown: convert the data with SimpleITKIO")
    # (z, y, x), as images are read, becomes the source's axes by transpose_forward
    forward = [2 - int(axis) for axis in plans["transpose_forward"]]
    if sorted(forward) != [0, 1, 2]:
        raise UnfitError(f"have the transpose_forward {plans['transpose_forward']}: it must name three axes")
    x, y, z = (forward.index(axis) for axis in range(3))
    network = network_of(configuration)
    plan = Plan(network, (x, y, z), (0, 0, 0), _normalisation(configuration), READERS[reader])
    window = plan._turned([int(side) for side in patch])
    if not plan.turned(network).fits(window):
        raise UnfitError(f"have a patch of {' x '.join(map(str, patch))} voxels, which its network does not take")
    return Plan(network, (x, y, z), window, plan.normalisation, plan.reversed_axes)


def _resolved(configurations: Mapping[str, Any], name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits. Raises UnfitError."""
    if name not in configurations or name in seen:
        raise UnfitError(f"have no configuration {name}, but {', '.join(configurations)}")
    own = dict(configurations[name])
    parent = own.get("inherits_from")
    return {**_resolved(configurations, parent, (*seen, name)), **own} if parent else own


def _normalisation(configuration: Mapping[str, Any]) -> Normalisation:
    schemes, masked = set(configuration["normalization_schemes"]), set(configuration["use_mask_for_norm"])
    if schemes != {"ZScoreNormalization"}:
        raise UnfitError(f"normalise by {', '.join(sorted(schemes))}: only ZScoreNormalization can be imported")
    if len(masked) != 1:
        raise UnfitError("normalise some channels inside the brain and others not: this cannot be imported")
    return Normalisation.ZSCORE_BRAIN if masked.pop() else Normalisation.ZSCORE_BOX


def network_of(configuration: Mapping[str, Any]) -> UNetConfig:
    """The network of a configuration, in plans of any version of nnU-Net v2. Raises UnfitError."""
    kind, given = _architecture(configuration)
    counted = "n_blocks_per_stage" if kind == RESIDUAL else "n_conv_per_stage"
    known = {
        *("n_stages", "features_per_stage", "kernel_sizes", "strides", counted, "n_conv_per_stage_decoder"),
        *("conv_bias", "norm_op_kwargs", *UNUSED),
    }
    if unknown := sorted(name for name in set(given) - known if given[name]):
        raise UnfitError(f"give the network {', '.join(unknown)}: this cannot be imported")
    _check_layers(given)
    levels = int(given["n_stages"])
    features = _per_level(given["features_per_stage"], levels)
    norm = given.get("norm_op_kwargs") or {}
    try:
        return UNetConfig(
            channels=tuple(features),
            regions=1,
            foreground=False,
            kernels=tuple(_sides(sides) for sides in _per_level(given["kernel_sizes"], levels)),
            strides=tuple(_sides(sides) for sides in _per_level(given["strides"], levels)),
            convolutions=tuple(_per_level(given[counted], levels)),
            decoder_convolutions=tuple(reversed(_per_level(given["n_conv_per_stage_decoder"], levels - 1))),
            residual=kind == RESIDUAL,
            bias=bool(given.get("conv_bias", False)),
            eps=float(norm.get("eps", 1e-5)),
            supervised=levels - 1,
            logits=True,
        )
    except ValueError as error:
        raise UnfitError(f"describe no network: {error}") from error


def _architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(class, its arguments). Raises UnfitError for another class."""
    if "architecture" in configuration:
        name = configuration["architecture"]["network_class_name"]
        given = dict(configuration["architecture"]["arch_kwargs"])
    else:  # before nnU-Net 2.4
        name, counts = configuration["UNet_class_name"], configuration["n_conv_per_stage_encoder"]
        widths = (configuration["UNet_base_num_features"], configuration["unet_max_num_features"])
        given = {
            "n_stages": len(counts),
            "features_per_stage": [min(widths[0] * 2**level, widths[1]) for level in range(len(counts))],
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            "n_blocks_per_stage" if name == RESIDUAL else "n_conv_per_stage": counts,
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        }
    kind = str(name).rpartition(".")[2]
    if kind not in (PLAIN, RESIDUAL):
        raise UnfitError(f"are for the network {name}: only {PLAIN} and {RESIDUAL} can be imported")
    return kind, given


def _check_layers(given: Mapping[str, Any]) -> None:
    """Raises UnfitError for layers that the U-Net does not have."""
    norm = str(given.get("norm_op", NORM)).rpartition(".")[2]
    act = str(given.get("nonlin", "LeakyReLU")).rpartition(".")[2]
    slope = (given.get("nonlin_kwargs") or {}).get("negative_slope", SLOPE)
    affine = (given.get("norm_op_kwargs") or {}).get("affine", False)
    if norm != NORM or not affine:
        raise UnfitError(f"give the network {norm}, affine: {affine}: only an affine {NORM} can be imported")
    if act != "LeakyReLU" or not math.isclose(slope, SLOPE):
        raise UnfitError(f"give the network {act} of slope {slope}: only LeakyReLU of {SLOPE} can be imported")


def _per_level(value: Any, levels: int) -> list[Any]:
    """An entry for each level; a single one is that of all. Raises UnfitError."""
    entries = list(value) if isinstance(value, list | tuple) else [value] * levels
    if len(entries) != levels:
        raise UnfitError(f"give {len(entries)} entries for {levels} levels")
    return entries


def _sides(value: Any) -> Sides:
    """Sides along three axes. Raises UnfitError."""
    sides = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(sides) != 3:
        raise UnfitError(f"have kernels or strides of {len(sides)} axes: import a 3d configuration")
    x, y, z = (int(side) for side in sides)
    return x, y, z
