"""Whether there is an endpoint to work with: the settings that name it, and a first look at it."""

import time
from urllib.parse import urlsplit

from monoglot.errors import EndpointError
from monoglot.generation.failures import cause
from monoglot.settings import Settings

CONNECT_S = 5.0
_CHECK_S = 10.0
_LOOKS = 3
_SETTABLE = "MONOGLOT_LLM_BASE_URL, MONOGLOT_LLM_API_KEY and MONOGLOT_LLM_MODEL"


def check_endpoint(settings: Settings, model: str | None = None) -> None:
    """Check that the endpoint can be reached and takes the key, in seconds and without cost.

    Asks for the list of models. An endpoint without such a list is taken to be well, as is one
    that lists other models only: gateways do not list all they serve.

    Args:
        settings: where the endpoint is.
        model: the model's name, to be sure that there is one; None: not checked.

    Raises:
        EndpointError: it cannot be reached or refuses the key; names address and settings.
    """
    check_settings(settings, model)
    for look in range(1, _LOOKS + 1):
        status = _status_of_models(settings)
        if status in (401, 403):
            raise EndpointError(
                f"{address(settings)}: the LLM endpoint refuses the key (HTTP {status}). "
                f"Set MONOGLOT_LLM_API_KEY, or check {_SETTABLE}."
            )
        if status < 500 or status == 501:
            return
        if look < _LOOKS:
            time.sleep(1.0)
    raise EndpointError(
        f"{address(settings)}: the LLM endpoint is not well (HTTP {status}). Wait until it is, or "
        f"check {_SETTABLE}."
    )


def check_settings(settings: Settings, model: str | None = None) -> None:
    """Check that an endpoint is set, as far as that shows without asking it.

    Args:
        settings: where the endpoint is.
        model: the model's name to check, too; None: not checked.

    Raises:
        EndpointError: base URL or model are missing, or URL or key cannot be right.
    """
    if not settings.llm_base_url:
        raise EndpointError(
            "No LLM endpoint is set. Set MONOGLOT_LLM_BASE_URL (such as http://localhost:8000/v1), "
            "MONOGLOT_LLM_MODEL and, where it needs one, MONOGLOT_LLM_API_KEY."
        )
    if not _is_web_address(settings.llm_base_url):
        raise EndpointError(
            f"MONOGLOT_LLM_BASE_URL: {address(settings)!r} is no http:// or https:// address. "
            "It usually looks like http://localhost:8000/v1."
        )
    key = key_of(settings)
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(
            "MONOGLOT_LLM_API_KEY holds characters that no key has, such as a line break: set it "
            "to the key alone."
        )
    if model == "":
        raise EndpointError(
            f"{address(settings)}: no model is named. Set MONOGLOT_LLM_MODEL, or `model` under "
            "`generation:`."
        )


def address(settings: Settings) -> str:
    """The base URL as it may be shown: without user, password and query."""
    return plain(settings.llm_base_url)


def plain(url: str) -> str:
    """The same for any; whatever the case of its host, and with or without a slash at its end."""
    scheme, separator, rest = url.partition("?")[0].rstrip("/").rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme.lower() + separator + host.rpartition("@")[2].lower() + slash + path


def key_of(settings: Settings) -> str:
    """The API key; a stand-in where none is set, as the client wants one that servers ignore."""
    return settings.llm_api_key.get_secret_value().strip() or "EMPTY"


def scrubbed(text: str, settings: Settings) -> str:
    """A message from outside without the key, which some endpoints repeat in their errors."""
    return text.replace(key_of(settings), "***")


def _is_web_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number, half a bracket
        return False


def _status_of_models(settings: Settings) -> int:
    """The HTTP status of the list of models.

    Raises:
        EndpointError: no connection.
    """
    import openai

    timeout = openai.Timeout(_CHECK_S, connect=CONNECT_S)
    with openai.OpenAI(
        base_url=settings.llm_base_url, api_key=key_of(settings), max_retries=0, timeout=timeout
    ) as client:
        try:
            return client.models.with_raw_response.list().status_code
        except openai.APIStatusError as error:
            return error.status_code
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"{address(settings)}: the LLM endpoint cannot be reached "
                f"({scrubbed(cause(error), settings)}). Start it, or check {_SETTABLE}."
            ) from None
