"""The shape of a model: frozen values, checked against each other when they are made.

Touches nothing and imports no torch, so that a plan can be priced before torch is loaded. One set
of words for every family of `trainers.families`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainers.families import FAMILIES, Family, FamilyName
from trainers.findings import FieldError
from trainers.quantity import Count

PositiveCount = Annotated[Count, Field(ge=1)]
VOCAB_MULTIPLE = 64
LARGEST_VOCAB = 2**20
BYTES = 256


class Frozen(BaseModel):
    """A block of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _default_heads(fields: dict[str, Any]) -> int:
    """Heads of 64 channels, of 32 in models under 256 wide; 1 when that does not divide."""
    width = int(fields.get("width", 1))
    heads = max(1, width // (64 if width >= 256 else 32))
    return heads if width % heads == 0 else 1


def _family_of(fields: dict[str, Any]) -> Family:
    return FAMILIES[fields.get("family", "gpt")]


class ModelConfig(Frozen):
    """The shape of a decoder-only transformer.

    `kv_heads` and `mlp_width` are the family's own where they are not given: as many as heads, and
    four widths or, for a gated MLP, 8/3 of them. `parametrization` says how rates and
    initialisation change with width (`mup`) and depth (`completep`) from those of `base_width` and
    `base_layers` (`trainers.scaling`); it is one for a whole sweep.
    """

    family: FamilyName = "gpt"
    layers: Annotated[Count, Field(ge=1, le=1024)]
    width: Annotated[Count, Field(ge=1, le=131072)]
    heads: PositiveCount = Field(default_factory=_default_heads)
    context: Annotated[Count, Field(ge=2, le=1 << 20)]
    vocab: Annotated[Count, Field(ge=2, le=LARGEST_VOCAB)] = BYTES
    tied: bool = True
    qk_norm: bool = Field(default_factory=lambda fields: _family_of(fields).qk_norm is not None)
    positions: Literal["learned", "rotary"] = Field(
        default_factory=lambda fields: _family_of(fields).positions
    )
    kv_heads: PositiveCount | None = None
    mlp_width: PositiveCount | None = None
    parametrization: Literal["standard", "mup", "completep"] = "standard"
    base_width: PositiveCount | None = None
    base_layers: PositiveCount | None = None

    @model_validator(mode="after")
    def _shapes_agree(self) -> ModelConfig:
        if self.width % self.heads:
            raise FieldError(
                "heads", f"{self.heads} heads do not divide width {self.width}; use a divisor"
            )
        if self.positions == "rotary" and self.channels % 2:
            raise FieldError(
                "positions",
                f"'rotary' turns pairs of channels, and a head has {self.channels}; change "
                "model.heads",
            )
        if self.heads % self.key_heads:
            message = f"{self.kv_heads} do not divide {self.heads} heads; use a divisor"
            raise FieldError("kv_heads", message)
        if self.family == "gpt":
            self._check_own()
        else:
            self._check_foreign()
        self._check_parametrization()
        return self

    def _check_own(self) -> None:
        for key, value in (("kv_heads", self.kv_heads), ("mlp_width", self.mlp_width)):
            if value is not None:
                raise FieldError(
                    key, "is fixed in the family gpt; use family: llama, or remove it"
                )

    def _check_foreign(self) -> None:
        family = self.blocks
        if self.positions != family.positions:
            message = f"the family {self.family} has {family.positions} ones; remove the key"
            raise FieldError("positions", message)
        if self.qk_norm != (family.qk_norm is not None):
            message = f"is {not self.qk_norm} in the family {self.family}; remove the key"
            raise FieldError("qk_norm", message)
        if self.kv_heads is not None and not family.grouped:
            message = f"the family {self.family} has as many as heads; remove the key"
            raise FieldError("kv_heads", message)
        if self.parametrization != "standard":
            raise FieldError(
                "parametrization", f"{self.parametrization!r} is for family: gpt; use standard"
            )

    def _check_parametrization(self) -> None:
        needed = {
            "standard": (),
            "mup": ("base_width",),
            "completep": ("base_width", "base_layers"),
        }
        for key, value in (("base_width", self.base_width), ("base_layers", self.base_layers)):
            if (value is not None) != (key in needed[self.parametrization]):
                said = "means nothing" if value is not None else "is required"
                raise FieldError(key, f"{said} under parametrization: {self.parametrization}")

    @property
    def blocks(self) -> Family:
        """How the blocks of its family are put together."""
        return FAMILIES[self.family]

    @property
    def channels(self) -> int:
        """Of a head."""
        return self.width // self.heads

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def inner_width(self) -> int:
        """Of the MLP: four widths, or, gated, 8/3 of them in whole 64s (8s below 256)."""
        if self.mlp_width is not None:
            return self.mlp_width
        if not self.blocks.gated:
            return 4 * self.width
        step = 64 if self.width >= 256 else 8
        return -(-8 * self.width // (3 * step)) * step

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding and the head: the vocabulary, up to a multiple of 64."""
        return -(-self.vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
