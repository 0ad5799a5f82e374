"""What the service is told: environment variables `VICINAL_*`, a TOML file, or arguments.

Precedence: arguments, environment, the TOML file named by `VICINAL_CONFIG`, defaults.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from vicinal import limits
from vicinal.errors import InvalidArgument

__all__ = ["KEY_LENGTH_MIN", "Settings", "is_loopback", "load_settings"]

KEY_LENGTH_MIN: Final = 16  # characters; shorter ones can be guessed over the network
_MAKE_KEY = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Everything the service can be told; docs/http.md explains each in the user's words."""

    model_config = SettingsConfigDict(env_prefix="VICINAL_", extra="forbid", frozen=True)

    dir: Path
    host: str = "127.0.0.1"
    port: int = Field(default=6333, ge=0, le=65_535)
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    read_only_api_key: SecretStr | None = None
    read_only: bool = False
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=1024)
    body_json_max: int = Field(default=limits.BODY_JSON_MAX, ge=1024)
    body_binary_max: int = Field(default=limits.BODY_BINARY_MAX, ge=1024)
    body_seconds: float = Field(default=limits.BODY_SECONDS_MAX, gt=0)
    request_seconds: float = Field(default=30.0, gt=0)
    in_flight_max: int = Field(default=limits.IN_FLIGHT_MAX, ge=1)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  one configuration file is enough
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  api_key_file does this openly
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file."""
        named = os.environ.get("VICINAL_CONFIG")
        if named is None:
            return init_settings, env_settings
        if not Path(named).is_file():
            raise InvalidArgument(f"VICINAL_CONFIG names no file: {named}", field="VICINAL_CONFIG", value=named)
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=named)

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("set api_key or api_key_file, not both")
        if self.read_only_api_key is not None and self.admin_key is None:
            raise ValueError("read_only_api_key alone would leave writing open: set api_key too")
        for name, key in (("api_key", self.admin_key), ("read_only_api_key", self.reader_key)):
            if key is not None and (len(key) < KEY_LENGTH_MIN or not key.isascii() or not key.isprintable()):
                raise ValueError(f"{name} needs at least {KEY_LENGTH_MIN} printable characters; {_MAKE_KEY}")
        if self.admin_key is not None and self.admin_key == self.reader_key:
            raise ValueError("read_only_api_key must differ from api_key")
        return self

    @property
    def admin_key(self) -> str | None:
        """The key that opens everything, from the setting or its file; None leaves the service open."""
        if self.api_key_file is not None:
            return self.api_key_file.read_text("utf-8").strip()
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def reader_key(self) -> str | None:
        """The key that opens reading routes only."""
        return None if self.read_only_api_key is None else self.read_only_api_key.get_secret_value()

    def require_safe_host(self) -> None:
        """Raise InvalidArgument when the service would be open to the network without a key."""
        if self.admin_key is None and not is_loopback(self.host):
            raise InvalidArgument(
                f"refusing to listen on {self.host} without a key: anyone who can reach it could read and "
                f"delete everything. Set VICINAL_API_KEY ({_MAKE_KEY}) or listen on 127.0.0.1",
                field="api_key",
                value=self.host,
                limit="127.0.0.1",
            )


def load_settings(**given: Any) -> Settings:
    """Settings from arguments, environment and TOML; InvalidArgument says which one is wrong."""
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        where = f"setting {name} (VICINAL_{name.upper()}): " if name else ""
        raise InvalidArgument(f"{where}{message}", field=name or None) from None
    except OSError as error:
        raise InvalidArgument(f"a settings file cannot be read: {error}", field="api_key_file") from None
    except ValueError as error:  # TOML syntax
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"the file of VICINAL_CONFIG is not TOML: {error}", field="VICINAL_CONFIG") from None
