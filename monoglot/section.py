"""`Section`: what every part of `monoglot.yaml` has in common."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of all sections: frozen, and a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, raw: Any) -> Any:
        """Leave out settings without a value (all of a section may be comments); no is no number.

        YAML reads `no`, `yes`, `on` and `off` as truth values, and Python takes these for 0 and 1.
        """
        if not isinstance(raw, dict):
            return raw
        for name, value in raw.items():
            field = cls.model_fields.get(name)
            kinds = {field.annotation, *get_args(field.annotation)} if field else set()
            if isinstance(value, bool) and {int, float} & kinds and bool not in kinds:
                raise ValueError(f"{name}: expected a number, not {str(value).lower()}")
        return {
            name: value
            for name, value in raw.items()
            if value is not None or name not in cls.model_fields
        }
