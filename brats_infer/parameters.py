"""The parameters file of an MLCube run: YAML, read strictly."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from brats_infer.errors import UsageError


class Parameters(BaseModel):
    """What a parameters file may set; names and values as on the command line, where an option given there wins."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str | None = None
    mode: str | None = None
    flips: bool | None = None
    on_error: str | None = None
    dust: int | None = None
    component_probability: float | None = None


def read_parameters(path: Path) -> dict[str, Any]:
    """{option: value} of what the file sets; nothing for a file that is absent or empty.

    Raises UsageError, naming the file and the key, for anything else that is no parameters file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Parameters.model_validate({} if content is None else content).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{path}: {key}: {first['msg']}: it may set {', '.join(Parameters.model_fields)}") from error
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: is not YAML ({error}): leave it empty or give --task and the like") from error
