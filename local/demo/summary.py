"""What came in, what was refused and why, duplicates, the bus, the decisions, and where the mails lie."""

from __future__ import annotations

import shutil
from collections import Counter
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.table import Table

from local.cloud import ROOT
from local.demo.report import console
from local.demo.world import Demo

OUTBOX = ROOT / ".local/outbox"


def summary(demo: Demo) -> None:
    """Print it, check the last of it, and keep the mails."""
    console.rule("Summary", align="left")
    events, bus = demo.events(), demo.on_the_bus()
    counts = Table(show_edge=False, box=None, pad_edge=False)
    for heading in ("came in", "answers"):
        counts.add_column(heading, justify="left" if heading == "came in" else "right")
    for what, number in sorted(demo.answers.items()):
        counts.add_row(what, str(number))
    console.print(counts)
    kinds = Counter((event["platform"], event["type"]) for event in events)
    console.print("\nrecorded, each once:")
    for platform in sorted({platform for platform, _ in kinds}):
        listed = ", ".join(f"{kind} {number}" for (of, kind), number in sorted(kinds.items()) if of == platform)
        console.print(f"  {platform}: {listed}")
    duplicates = demo.duplicates()
    console.print(f"\nduplicates recognised: {duplicates}")
    console.print("refused after being accepted:")
    quarantined = demo.quarantined()
    for entry in quarantined:
        console.print(f"  {entry['platform']}/{entry['connection']}: {entry['reason']} ({entry['detail']})")
    console.print(
        "on the bus: " + ", ".join(f"{kind} {n}" for kind, n in sorted(Counter(e["detail-type"] for e in bus).items()))
    )
    console.print("decisions:")
    for name, decisions in demo.explanations.items():
        for decision in decisions:
            console.print(f"  {name}: {decision['outcome']}, {decision['reason']}")
    demo.report.check("a truncated file and a rubbish delivery are in quarantine", True, len(quarantined) >= 2)
    demo.report.check(
        "the bus carried carts and orders", True, {"cart_updated", "order_completed"} <= {e["detail-type"] for e in bus}
    )
    for path in keep_mails(demo.mails()):
        console.print(f"mail: {path.relative_to(ROOT)}")


def keep_mails(mails: list[dict[str, Any]]) -> list[Path]:
    """Write each mail to .local/outbox as .eml and .html."""
    shutil.rmtree(OUTBOX, ignore_errors=True)
    OUTBOX.mkdir(parents=True)
    written = []
    for mail in mails:
        to = mail["To"][0]
        message = EmailMessage(policy=policy.SMTP)
        message["From"], message["To"], message["Subject"] = mail["Source"], to, mail["Subject"]
        message.set_content(mail["BodyText"] or "")
        message.add_alternative(mail["BodyHtml"] or "", subtype="html")
        name = quote(to.partition("@")[0])
        written += [OUTBOX / f"{name}.eml", OUTBOX / f"{name}.html"]
        written[-2].write_bytes(bytes(message))
        written[-1].write_text(mail["BodyHtml"] or "")
    return written
