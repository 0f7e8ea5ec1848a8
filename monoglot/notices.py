"""`Notice`: what a person should know of a store, sent as JSON to a webhook.

The webhook's address is a secret (whoever has it can post): it is in no message and no log.
"""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import Literal

from monoglot.health import Health
from monoglot.identity import digest
from monoglot.settings import Settings
from monoglot.store import Store

_TIMEOUT_S = 10.0
_SECRET_FROM = 8  # letters
Event = Literal["failed", "rejected", "awaits_approval", "spending_stop", "stale", "unwell"]


@dataclass(frozen=True)
class Notice:
    """One piece of news.

    Attributes:
        event: what kind of news.
        what: what happened, in a few words.
        store: which store, or the run where no store can be told.
        why: the reason, as the error or the gate says it.
        to_do: what to do about it.
        run: name of the flow run; empty: none.
    """

    event: Event
    what: str
    store: str
    why: str
    to_do: str
    run: str = ""

    @property
    def text(self) -> str:
        """The whole in a few lines: what Slack, Mattermost or Teams show of a message."""
        run = f" ({self.run})" if self.run else ""
        return f"Monoglot: {self.what}{run}\nStore: {self.store}\n{self.why}\nTo do: {self.to_do}"


def tell(settings: Settings, notice: Notice, store: Store | None = None) -> str:
    """Send a notice, unless no webhook is set or the same news was told within a day.

    Args:
        settings: name the webhook.
        notice: what to tell.
        store: remembers what was told; None: it is told in any case.

    Returns:
        What became of it, for a log. Nothing is raised: news that cannot be told fails no run.
    """
    if not settings.webhook_url.get_secret_value():
        return "nobody told: MONOGLOT_WEBHOOK_URL is not set"
    news = digest({"event": notice.event, "what": notice.what, "why": notice.why})
    if store is not None and Health(store).was_told(news):
        return "not told again: the webhook took the same news within a day"
    trouble = _post(settings, notice)
    if trouble:
        return f"the webhook (MONOGLOT_WEBHOOK_URL) could not be told: {trouble}"
    if store is not None:
        try:
            Health(store).note_told(news)
        except Exception as error:  # a broken store may be the news itself
            return f"told by webhook; the store cannot remember it ({type(error).__name__})"
    return "told by webhook"


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would ask by GET, whose 200 says nothing of the message."""

    def redirect_request(self, *_: object) -> None:
        """None: the redirect is raised as the error that it is here."""
        return


def _post(settings: Settings, notice: Notice) -> str:
    """POST the notice; what went wrong, without the address, or nothing."""
    body = json.dumps(_without_secrets(settings, notice), ensure_ascii=False)
    url, headers = settings.webhook_url.get_secret_value(), {"Content-Type": "application/json"}
    if not url.startswith(("http://", "https://")):
        return "it is no http:// or https:// address"
    try:
        request = urllib.request.Request(url, body.encode(), headers, method="POST")  # noqa: S310
        with urllib.request.build_opener(_StayHere).open(request, timeout=_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            return f"it redirects (HTTP {error.code}); set it to the address that it redirects to"
        return f"it answers HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None)
        return f"no answer ({type(cause or error).__name__})"


def _without_secrets(settings: Settings, notice: Notice) -> dict[str, str]:
    """What is sent. A short key, such as a local server's dummy, is part of other words."""
    message = {"text": notice.text, **asdict(notice)}
    for it in (settings.llm_api_key, settings.webhook_url):
        secret = it.get_secret_value()
        if len(secret) >= _SECRET_FROM:
            message = {name: text.replace(secret, "***") for name, text in message.items()}
    return message | {"event": notice.event}
