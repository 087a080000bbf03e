"""What every table of the settings is made of: its base, its secrets, and the kinds of values."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from pacs_guard.domain.identifiers import ae_title

_KNOWN_BY = {"sha256", "dns", "ip", "cn"}


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(f"{value!r} was given; expected an IP address or network such as 10.1.0.0/16") from error


def _certificate(value: str) -> str:
    """Normalise what a certificate is known by; a fingerprint as ``openssl x509 -fingerprint -sha256`` shows it too."""
    kind, _, what = value.strip().partition(":")
    kind = kind.lower()
    if kind == "sha256":
        what = what.replace(":", "").lower()
    if not what or kind not in _KNOWN_BY or (kind == "sha256" and not re.fullmatch("[0-9a-f]{64}", what)):
        raise ValueError(
            f"{value!r} was given; expected sha256: and the 64 hexadecimal digits of the fingerprint, "
            "or dns:, ip: or cn: and a name of the certificate"
        )
    return f"{kind}:{what}"


def raise_all(problems: list[str]) -> None:
    """Refuse what has problems, one line for each.

    Raises
    ------
    ValueError
        If there are any.
    """
    if problems:
        raise ValueError("\n".join(problems))


def _is_secret(annotation: Any) -> bool:
    return SecretStr in (annotation, *get_args(annotation))


def _secret(name: str, file: Any) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}_file: {file!r} was given; it cannot be read: {error}") from error


# true for a table without settings of its own
SWITCH = BeforeValidator(lambda value: ({} if value else None) if isinstance(value, bool) else value)


def or_only(name: str) -> BeforeValidator:
    """Let a table be given as the value of one of its settings alone."""
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


AETitle = Annotated[str, AfterValidator(ae_title)]
Network = Annotated[str, AfterValidator(_network)]
CertificateName = Annotated[str, AfterValidator(_certificate)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Transport = Literal["fast", "stock"]
MailAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """A table of the file. For every secret NAME, ``NAME_file`` may name a file that holds it, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read_secrets(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        secrets = [name for name, field in cls.model_fields.items() if _is_secret(field.annotation)]
        given = {name: values[f"{name}_file"] for name in secrets if values.get(f"{name}_file") is not None}
        both = sorted(name for name in given if values.get(name) is not None)
        raise_all([f"{name} and {name}_file are both given; expected one of them" for name in both])
        rest = {key: value for key, value in values.items() if key not in {f"{name}_file" for name in secrets}}
        return rest | {name: _secret(name, file) for name, file in given.items()}
