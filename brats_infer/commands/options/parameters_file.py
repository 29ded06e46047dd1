"""The parameters file of an MLCube run: YAML, read strictly."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from brats_infer.errors import UsageError


class Parameters(BaseModel):
    """The options of a parameters file, as on the command line. An option on the command line wins."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str | None = None
    mode: str | None = None
    flips: bool | None = None
    on_error: str | None = None
    missing: str | None = None
    post_process: str | None = None
    dust: int | None = None
    component_probability: float | None = None


class _Strict(yaml.SafeLoader):
    """Refuses a key given twice; YAML loaders silently take the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(problem=f"{twice} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read_parameters(path: Path) -> dict[str, Any]:
    """{option: value} of a file; empty for a file that is absent or empty.

    Raises UsageError, naming the file and the key, for an unreadable or invalid file.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # noqa: S506 - a SafeLoader
        return Parameters.model_validate({} if content is None else content).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{path}: {key}: {first['msg']}: it may set {', '.join(Parameters.model_fields)}") from error
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): give a YAML file that is readable") from error
    except (ValueError, TypeError, LookupError, RecursionError, yaml.YAMLError) as error:  # YAML tags raise any of them
        keys = ", ".join(Parameters.model_fields)
        raise UsageError(f"{path}: is not YAML ({error}): mend it or leave it empty; it may set {keys}") from error
