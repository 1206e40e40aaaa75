"""What every group of settings is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bayfed.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def refusal(
    error: ValidationError, origin: str, key_of: Callable[[tuple[str | int, ...]], str]
) -> ConfigError:
    """Return what is wrong in words: the first mistake, with ``origin`` and its key."""
    first = error.errors()[0]
    key = key_of(first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{origin}: unknown setting {key!r}")
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{origin}: {f'{key}: ' if key else ''}{message}")
