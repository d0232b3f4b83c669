"""Products for one mail, as they are sold in the instant before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from espial import recommend
from espial.errors import Refused
from espial.people import PersonView
from espial.ports import Catalogues
from espial.triggers import durations
from espial.triggers.run import Run

AT_ONCE = 100
"""Candidates that are looked up: what a call to the store takes."""


@dataclass(frozen=True, slots=True)
class Recommender:
    """The use-case over a store of catalogues."""

    catalogues: Catalogues

    def products(self, wanted: Mapping[str, Any], run: Run, view: PersonView, now: datetime) -> list[dict[str, Any]]:
        """What `wanted` (a template's `recommendations`) asks for, as a template prints it; perhaps nothing.

        Name, price and stock are the catalogue's, read for this mail; what events said of them is not used. Nothing
        comes from a catalogue that was last loaded longer than `max_age` ago. Raises Refused `no_recommendations`
        where the template does without the mail then, TryAgain when the store is away.
        """
        found = self._found(wanted, run, view, now)
        if not found and wanted["required"]:
            raise Refused("no_recommendations", wanted["catalogue"])
        return found

    def _found(self, wanted: Mapping[str, Any], run: Run, view: PersonView, now: datetime) -> list[dict[str, Any]]:
        name = wanted["catalogue"]
        loaded_at = self.catalogues.loaded_at(name)
        if loaded_at is None or loaded_at + durations.parse(wanted["max_age"]) < now:
            return []
        cares = recommend.interests(view.events, run.event, now)
        seen = self.catalogues.products(name, cares.weights)
        cared_for = recommend.categories(cares, seen)
        best = self.catalogues.best(name, ["", *cared_for])
        offered = recommend.candidates(cares, cared_for, best, wanted["fallback"])
        # the list that the template names is looked up whatever stands before it
        asked = dict.fromkeys([*offered[: AT_ONCE - len(wanted["fallback"])], *wanted["fallback"]])
        chosen = recommend.choose(offered, self.catalogues.products(name, asked), wanted["count"])
        return [{name: value for name, value in msgspec.to_builtins(one).items() if name != "sold"} for one in chosen]
