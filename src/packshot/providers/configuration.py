"""Which image APIs of other people may be asked, from a TOML file. Does not know how they are called.

The file has a table per provider; docs/guide/providers.md describes its keys. It holds no secret: ``key_variable`` names
the environment variable that does.
"""

import re
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from packshot.domain.errors import InvalidInput
from packshot.domain.providers import NAME_PATTERN, OPTIONAL_SETTINGS, Provider

_RESERVED = ("model", "prompt", "n", "size")
_NAMES = TypeAdapter(dict[Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")], dict[str, object]])


def _check_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise ValueError("must be an address such as https://api.openai.com/v1, without a key in it")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("must begin with https://, as keys and prompts go there; http:// only leads to this machine")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether ``host`` means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ProviderConfig(BaseModel):
    """A table of the file. ``settings`` are the names under which the API takes ours, ``fields`` go with every request."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    base_url: Annotated[str, AfterValidator(_check_address)]
    key_variable: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    models: list[str] = []
    sizes: list[Annotated[str, Field(pattern=r"^[1-9]\d{0,3}x[1-9]\d{0,3}$")]] | Literal["any"] = []
    max_images: Annotated[int, Field(ge=1, le=100)] = 1
    price_per_image: Annotated[float, Field(ge=0, strict=False)] = 0.0
    timeout_s: Annotated[float, Field(gt=0, le=3600, strict=False)] = 180.0
    settings: dict[Literal[OPTIONAL_SETTINGS], str] = {}  # type: ignore[valid-type]
    fields: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _each_field_once(self) -> "ProviderConfig":
        names = [*_RESERVED, *self.settings.values(), *self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} would be sent twice in a request")
        return self

    def provider(self, name: str) -> Provider:
        """What it can do."""
        sizes = None if self.sizes == "any" else tuple(_size(each) for each in self.sizes)
        return Provider(
            name=name,
            models=tuple(self.models),
            sizes=sizes,
            settings=tuple(self.settings),
            price_per_image=self.price_per_image,
        )


def _size(text: str) -> tuple[int, int]:
    width, height = re.findall(r"\d+", text)
    return int(width), int(height)


def read_providers(file: Path) -> dict[str, ProviderConfig]:
    """The providers that ``file`` declares, by name; none where there is no such file.

    Raises:
        InvalidInput: it cannot be read, or a table is not as it should be.
    """
    try:
        tables = _NAMES.validate_python(tomllib.loads(file.read_text(encoding="utf-8")))
        return {name: ProviderConfig.model_validate(table) for name, table in tables.items()}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"cannot read {file} ({error}); mend it, or take it away") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InvalidInput(f"{file}: {where or 'a table'}: {wrong['msg']}; it is {wrong['input']!r}") from error
