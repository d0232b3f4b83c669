"""A folder of definitions to checked values. All that is wrong is found at once, with its file, line and field."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from espial.campaigns import checking, compiling
from espial.campaigns.definition import CampaignDefinition, PayloadDefinition, VariantDefinition
from espial.campaigns.webhook import WebhookDefinition
from espial.definitions import reading
from espial.definitions.fields import NAME
from espial.definitions.models import ConnectionDefinition, ProviderDefinition
from espial.definitions.problems import meant, problems_of
from espial.definitions.reading import Document
from espial.errors import InvalidDefinition
from espial.feeds.definition import LONGEST_ROTATION, FeedDefinition, LayoutDefinition, built_in
from espial.mail_links import PLATFORM as PAGES
from espial.notifications.definition import DestinationDefinition, rivals
from espial.onboarding.definition import OnboardingDefinition
from espial.own_events import PLATFORM as OURS
from espial.templates.compile import compile_template
from espial.triggers import durations
from espial.triggers.definition import Trigger

MODELS: Mapping[str, type[BaseModel]] = {
    "campaigns": CampaignDefinition,
    "connections": ConnectionDefinition,
    "destinations": DestinationDefinition,
    "feeds": FeedDefinition,
    "layouts": LayoutDefinition,
    "onboardings": OnboardingDefinition,
    "payloads": PayloadDefinition,
    "providers": ProviderDefinition,
    "triggers": Trigger,
    "variants": VariantDefinition,
    "webhooks": WebhookDefinition,
}
"""Folder -> what each of its `<name>.yaml` files must be."""

FOLDERS = (*MODELS, "templates", "stages")


@dataclass(frozen=True)
class Definitions:
    """Everything under definitions/ for one stage, checked and cross-checked, by name."""

    campaigns: dict[str, CampaignDefinition] = field(default_factory=dict)
    connections: dict[str, ConnectionDefinition] = field(default_factory=dict)
    destinations: dict[str, DestinationDefinition] = field(default_factory=dict)
    feeds: dict[str, FeedDefinition] = field(default_factory=dict)
    layouts: dict[str, LayoutDefinition] = field(default_factory=dict)
    onboardings: dict[str, OnboardingDefinition] = field(default_factory=dict)
    payloads: dict[str, PayloadDefinition] = field(default_factory=dict)
    providers: dict[str, ProviderDefinition] = field(default_factory=dict)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    variants: dict[str, VariantDefinition] = field(default_factory=dict)
    webhooks: dict[str, WebhookDefinition] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(root: Path, stage: str | None = None, *, overdue: Collection[str] = ()) -> Definitions:
    """Read, overlay with `stages/<stage>.yaml` and check. Raises InvalidDefinition with every problem found.

    `overdue`: triggers whose schedule is past (`publish.overdue`), which somebody else knows the time for.
    """
    return _Loading(root, overdue).run(stage)


def stages(root: Path) -> list[str]:
    """The stages that have an overlay."""
    return sorted(path.stem for path in (root / "stages").glob("*.yaml"))


class _Loading:
    """One reading of a folder. Problems gather here, so that one mistake does not hide the next."""

    def __init__(self, root: Path, overdue: Collection[str]) -> None:
        self.root = root
        self.overdue = overdue
        self.problems: list[str] = []
        self.documents: dict[tuple[str, str], Document] = {}

    def run(self, stage: str | None) -> Definitions:
        if not self.root.is_dir():
            raise InvalidDefinition([f"{self.root}: no such folder"])
        for folder in MODELS:
            for path in self._files(folder):
                self._read(folder, path)
        overlays = {path.stem: self._overlay(path) for path in self._files("stages")}
        self._stray()
        if stage is not None and stage not in overlays:
            known = ", ".join(overlays) or "none"
            self.problems.append(f"{self.root / 'stages'}: no stage named {stage!r} (known: {known})")
        elif stage is not None:
            self._lay_over(overlays[stage])
        kinds = {folder: self._check(folder) for folder in MODELS}
        definitions = Definitions(**kinds, templates=self._templates())  # type: ignore[arg-type]
        self._cross_check(definitions)
        if self.problems:
            raise InvalidDefinition(sorted(set(self.problems), key=_in_order))
        return definitions

    # -- reading

    def _files(self, folder: str) -> Iterator[Path]:
        for path in sorted((self.root / folder).glob("*")):
            if _ignored(path):
                continue
            if path.is_dir() or path.suffix != ".yaml":
                self.problems.append(f"{path}: not a definition: {folder}/ holds files named <name>.yaml")
            elif not NAME.fullmatch(path.stem):
                self.problems.append(f"{path}: the file's name must be lower-case letters, digits, - and _")
            else:
                yield path

    def _document(self, path: Path) -> Document | None:
        try:
            return reading.read(path.read_bytes(), str(path))
        except OSError as exc:
            self.problems.append(f"{path}: cannot be read: {exc.strerror}")
        except InvalidDefinition as exc:
            self.problems += exc.problems
        return None

    def _read(self, folder: str, path: Path) -> None:
        document = self._document(path)
        if document is None:
            return
        name = document.data.setdefault("name", path.stem)
        if name != path.stem:
            self.problems.append(document.problem(("name",), f"must be {path.stem!r}, as the file is called"))
            document.data["name"] = path.stem
        self.documents[folder, path.stem] = document

    def _stray(self) -> None:
        for path in sorted(self.root.iterdir()):
            if _ignored(path) or (path.is_dir() and path.name in FOLDERS):
                continue
            if path.is_dir():
                self.problems.append(f"{path}: no such kind of definition{meant(path.name, FOLDERS)}")
            else:
                self.problems.append(f"{path}: stray file: definitions lie in {', '.join(f'{f}/' for f in FOLDERS)}")

    # -- stages

    def _overlay(self, path: Path) -> Document | None:
        """An overlay whose every entry names an existing definition; what is wrong with it is left out of it."""
        overlay = self._document(path)
        for folder, entries in dict(overlay.data).items() if overlay else ():
            assert overlay is not None
            if folder not in MODELS:
                self.problems.append(overlay.problem((folder,), f"a stage may change {', '.join(MODELS)}"))
                del overlay.data[folder]
            elif not isinstance(entries, dict):
                self.problems.append(overlay.problem((folder,), "must map names to what changes"))
                del overlay.data[folder]
            else:
                self._overlay_entries(overlay, folder, entries)
        return overlay

    def _overlay_entries(self, overlay: Document, folder: str, entries: dict[str, Any]) -> None:
        known = [name for kind, name in self.documents if kind == folder]
        for name, patch in dict(entries).items():
            at = (folder, name)
            if name not in known and not (self.root / folder / f"{name}.yaml").exists():
                self.problems.append(overlay.problem(at, f"no such definition{meant(name, known)}"))
            elif not isinstance(patch, dict):
                self.problems.append(overlay.problem(at, "must map fields to what they are in this stage"))
            elif "name" in patch:
                self.problems.append(overlay.problem((*at, "name"), "a stage cannot rename"))
            elif name in known:
                continue
            del entries[name]

    def _lay_over(self, overlay: Document | None) -> None:
        for folder, entries in overlay.data.items() if overlay else ():
            for name in entries:
                base = self.documents[folder, name]
                self.documents[folder, name] = reading.overlaid(base, overlay, (folder, name))  # type: ignore[arg-type]

    # -- checking

    def _check(self, folder: str) -> dict[str, BaseModel]:
        checked = {}
        for (kind, name), document in self.documents.items():
            if kind != folder:
                continue
            try:
                checked[name] = MODELS[folder].model_validate(document.data)
            except ValidationError as exc:
                self.problems += problems_of(document, MODELS[folder], exc)
        return checked

    def _templates(self) -> dict[str, dict[str, Any]]:
        compiled = {}
        for folder in sorted((self.root / "templates").glob("*")):
            if _ignored(folder):
                continue
            if not folder.is_dir():
                self.problems.append(f"{folder}: not a template: templates/ holds one folder a template")
                continue
            try:
                compiled[folder.name] = compile_template(folder)
            except InvalidDefinition as exc:
                self.problems += exc.problems
        return compiled

    def _cross_check(self, definitions: Definitions) -> None:
        """What one file says of another: a trigger's template and provider must exist, and suit each other and it."""
        templates = [path.name for path in (self.root / "templates").glob("*") if not _ignored(path)]
        providers = [name for kind, name in self.documents if kind == "providers"]
        connections = definitions.connections.values()
        pages = any(one.platform == PAGES and one.enabled and one.secrets for one in connections)
        for name, trigger in definitions.triggers.items():
            self._check_trigger(
                self.documents["triggers", name], trigger, definitions, templates, providers, pages=pages
            )
        self._check_series(definitions)
        self._check_campaigns(definitions)
        for name, feed in definitions.feeds.items():
            self._check_feed(self.documents["feeds", name], feed, definitions)
        self._check_destinations(definitions, providers)
        for name, other, shared in rivals(definitions.destinations):
            file = self.root / "destinations" / f"{other}.yaml"
            what = f"{file} tells of {shared} for the same profile already; write `several: true` if both shall"
            self.problems.append(self.documents["destinations", name].problem(("on",), what))

    def _check_trigger(
        self,
        document: Document,
        trigger: Trigger,
        definitions: Definitions,
        templates: Collection[str],
        providers: Collection[str],
        *,
        pages: bool,
    ) -> None:
        if trigger.name in self.overdue:
            self.problems.append(document.problem(("entry", "schedule", "at"), "is past: nobody would enter"))
        named = [(at, "template", value, templates) for at, value in trigger.templates.items()]
        for at, noun, value, known in (*named, (("send", "provider"), "provider", trigger.send.provider, providers)):
            if value not in known:
                what = f"no {noun} named {value!r}{meant(value, known)}"
                self.problems.append(document.problem(at, what))
        if trigger.send.track and not pages:
            what = f"needs a connection of platform {PAGES}, whose secret signs the links"
            self.problems.append(document.problem(("send", "track"), what))
        provider = definitions.providers.get(trigger.send.provider)
        if provider is not None and provider.channel != trigger.channel:
            what = f"provider {provider.name} sends {provider.channel}, and this trigger is of {trigger.channel}"
            self.problems.append(document.problem(("send", "provider"), what))
        for used in sorted(set(trigger.templates.values())):
            if definitions.templates.get(used, {}).get("category") == "marketing":
                self._check_marketing(document, trigger, used, provider, pages=pages)

    def _check_destinations(self, definitions: Definitions, providers: list[str]) -> None:
        """The connections that it names must exist, and its provider, which must send e-mail."""
        for name, destination in definitions.destinations.items():
            self._check_connections(self.documents["destinations", name], ("connections",), destination)
            provider = definitions.providers.get(destination.email.provider) if destination.email else None
            if provider is not None and provider.channel != "email":
                what = f"provider {provider.name} sends {provider.channel}, not e-mail"
                self.problems.append(self.documents["destinations", name].problem(("email", "provider"), what))
            if destination.email and destination.email.provider not in providers:
                value = destination.email.provider
                what = f"no provider named {value!r}{meant(value, providers)}"
                self.problems.append(self.documents["destinations", name].problem(("email", "provider"), what))

    def _check_campaigns(self, definitions: Definitions) -> None:
        """One that is live needs everything that it sends; what a file that is itself refused says is not missed."""
        refused = [kind for kind, name in self.documents if name not in getattr(definitions, kind)]
        taken = dict.fromkeys(definitions.triggers, "a trigger of its own")
        for name, campaign in definitions.campaigns.items():
            document = self.documents["campaigns", name]
            for trigger, *_ in compiling.names(campaign):
                if (other := taken.setdefault(trigger, f"campaign {name!r}")) != f"campaign {name!r}":
                    self.problems.append(document.problem(("name",), f"its trigger {trigger!r} is {other} already"))
            if checking.checked(campaign) and not {"payloads", "providers", "variants", "webhooks"} & {*refused}:
                items = checking.go_live(campaign, definitions)
                self.problems += [document.problem(item.path, str(item)) for item in items]
        providers = {name for kind, name in self.documents if kind == "providers"}
        for kind in ("variants", "webhooks"):
            for name, one in getattr(definitions, kind).items():
                if one.provider not in providers:
                    what = f"no provider named {one.provider!r}{meant(one.provider, providers)}"
                    self.problems.append(self.documents[kind, name].problem(("provider",), what))

    def _check_series(self, definitions: Definitions) -> None:
        """Executions and contacts of two onboardings for one system must not share their ids."""
        first: dict[tuple[str, int], str] = {}
        for name, onboarding in definitions.onboardings.items():
            other = first.setdefault((onboarding.system.lower(), onboarding.series), name)
            if other != name:
                what = f"{other!r} has series {onboarding.series} of {onboarding.system}: give this one another number"
                self.problems.append(self.documents["onboardings", name].problem(("series",), what))

    def _check_feed(self, document: Document, feed: FeedDefinition, definitions: Definitions) -> None:
        """A feed's layouts must exist, one of each kind, and the connections that it names must, too."""
        layouts = {**built_in(), **definitions.layouts}
        written = {name for kind, name in self.documents if kind == "layouts"}
        of: dict[str, str] = {}
        for number, name in enumerate(feed.layouts):
            layout = layouts.get(name)
            what = ""
            if layout is None:
                what = "" if name in written else f"no layout named {name!r}{meant(name, {*layouts, *written})}"
            elif layout.of == "extension":
                what = f"{name!r} is of extensions: `extensions: true` makes these files"
            elif (first := of.setdefault(layout.of, name)) != name or name in feed.layouts[:number]:
                what = f"{name!r} and {first!r} are both of {layout.of}: a feed has one layout of a kind"
            if what:
                self.problems.append(document.problem(("layouts", number), what))
        if "event" in of and len(feed.layouts) > 1:
            what = f"{of['event']!r} has every event as it is: give it a feed of its own"
            self.problems.append(document.problem(("layouts",), what))
        if feed.rotate.after > LONGEST_ROTATION:
            what = f"at most {durations.text(LONGEST_ROTATION)}: what is in no file is forgotten after 24 hours"
            self.problems.append(document.problem(("rotate", "after"), what))
        for number, sink in enumerate(feed.sinks):
            if sink.collect and (not {*of} <= {"event"} or feed.format == "parquet"):
                what = "a day in one file is for an event log of lines: `layouts: [event_log]`, and not Parquet"
                self.problems.append(document.problem(("sinks", number, "collect"), what))
        self._check_accounts(document, feed, definitions)
        self._check_connections(document, ("connections", "systems", "business_units", "sends"), feed)

    def _check_connections(self, document: Document, fields: tuple[str, ...], definition: BaseModel) -> None:
        reporting = {name for kind, name in self.documents if kind in ("connections", "onboardings")} | {OURS}
        for field_name in fields:
            for connection in getattr(definition, field_name):
                if connection not in reporting:
                    what = f"no connection or onboarding named {connection!r}{meant(connection, reporting)}"
                    self.problems.append(document.problem((field_name,), what))

    def _check_accounts(self, document: Document, feed: FeedDefinition, definitions: Definitions) -> None:
        """What two connections of one account report is recorded once, as whichever came first: a feed takes both."""
        accounts: dict[tuple[str, str], list[str]] = {}
        for name, connection in definitions.connections.items():
            accounts.setdefault((connection.platform, connection.account or name), []).append(name)
        for names in accounts.values():
            if feed.connections and (left := sorted({*names} - {*feed.connections})) and len(left) < len(names):
                what = f"{left[0]!r} is left out, which is of one account with {min({*names} - {*left})!r}"
                self.problems.append(document.problem(("connections",), what))
            if len({feed.systems.get(name) for name in names}) > 1:
                what = f"{', '.join(map(repr, names))} are of one account: give them one name"
                self.problems.append(document.problem(("systems",), what))

    def _check_marketing(
        self, document: Document, trigger: Trigger, used: str, provider: ProviderDefinition | None, *, pages: bool
    ) -> None:
        """Marketing mail without consent, or without a way out, must not wait for the first recipient to be noticed."""
        template = f"template {used} is marketing"
        if trigger.consent is None:
            what = f"is missing: {template}, so name what people agreed to, or make the template transactional"
            self.problems.append(document.problem(("consent",), what))
        if provider is not None and provider.channel == "email" and provider.unsubscribe_url is None and not pages:
            what = (
                f"provider {provider.name} has no unsubscribe_url, and {template}: "
                f"name a page of yours, or apply a connection of platform {PAGES} to use ours"
            )
            self.problems.append(document.problem(("send", "provider"), what))


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "README.md"


def _in_order(problem: str) -> tuple[str, int, str]:
    file, _, rest = problem.partition(":")
    line = rest.partition(":")[0]
    return file, int(line) if line.isdecimal() else 0, problem
