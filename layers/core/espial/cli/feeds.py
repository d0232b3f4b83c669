"""`espial feeds`: what was written for a CDP, how far each sink is, and sending, getting and checking files."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from espial.cli import stores
from espial.cli.cdp import Definitions, layouts
from espial.cli.output import dump, say, table
from espial.cli.stack import Failed, Stack
from espial.errors import TryAgain
from espial.feeds.checking import Layouts, Present, check, folder
from espial.feeds.files import MANIFEST, Batch, FeedFile
from espial.services.deliver_feed import placed

app = typer.Typer(
    help="Files for CDPs: what was written, how far each sink is, checking and sending again.", no_args_is_help=True
)

Feed = Annotated[str, typer.Argument(metavar="FEED")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Every feed, what its last batch brought, and how far its sinks are.

    "newly waiting" are the responses that began to wait for their send with that batch.
    """
    status = stores.feed_status(ctx.obj)
    facts = [status.facts(feed) for feed, _ in status.feeds.feeds()]
    if as_json:
        dump(facts)
    elif not facts:
        say("no feed was applied")
    else:
        table(("feed", "batch", "closed", "files", "rows", "newly waiting"), map(_feed_line, facts))
        table(("sink", "lacks", "state"), [_sink_line(one["feed"], sink) for one in facts for sink in one["sinks"]])


@app.command()
def show(
    ctx: typer.Context,
    feed: Feed,
    batch: Annotated[int | None, typer.Option(min=1, help="Its number. Default: the last.")] = None,
    as_json: Json = False,
) -> None:
    """One batch: what became of its events, and its files in order; and how far the sinks are."""
    status = stores.feed_status(ctx.obj)
    facts = status.facts(status.definition(feed)[0])
    number = batch or facts["batch"]
    found = status.batch(feed, number) if number else None
    files = list(found.files) if found else []
    counts = found.counts if found else {}
    if as_json:
        dump({**facts, "shown": number, "counts": counts, "files": [file.name for file in files]})
        return
    say(f"feed {feed}, " + (f"batch {number} of {facts['batch']}" if found else "no batch yet"))
    for outcome, count in sorted(counts.items()):
        say(f"  {count:>9,} {outcome.replace('_', ' ').replace(':', ': ')}")
    if found and found.gap:
        say("the table's stream had forgotten events before this batch could read them")
    if files:
        table(("rows", "bytes", "kind", "file"), [_file_line(file) for file in files], whole=3)
    table(("sink", "lacks", "state"), [_sink_line(feed, sink) for sink in facts["sinks"]])


@app.command()
def get(
    ctx: typer.Context,
    feed: Feed,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the file.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Where to; - for standard output. Default: its name.")] = "",
) -> None:
    """Fetch a file from the archive, byte for byte."""
    stack: Stack = ctx.obj
    for batch in stores.feed_book(stack).batches(feed):
        for file in batch.files:
            if file.name == name:
                content = _content(stack, batch, file)
                if out == "-":
                    sys.stdout.buffer.write(content)
                else:
                    Path(out or name).write_bytes(content)
                    say(f"{out or name}: {len(content):,} bytes")
                return
    raise Failed(f"feed {feed} has no file {name}, or it is no longer kept")


@app.command()
def download(
    ctx: typer.Context,
    feed: Feed,
    folder_: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is not there.")],
    last: Annotated[int | None, typer.Option(min=1, help="Only so many batches. Default: all that are kept.")] = None,
) -> None:
    """Fetch files with their manifests into a folder, as a bucket sink lays them out."""
    folder_.mkdir(parents=True, exist_ok=True)
    _, present = _present(ctx.obj, feed, last)
    for file, content in present:
        path = folder_ / placed(file)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content())
        path.with_name(path.name + MANIFEST).write_bytes(file.manifest())
    say(f"{len(present):,} files in {folder_}")


@app.command()
def resend(
    ctx: typer.Context,
    feed: Feed,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Files by name, or batches by number.")],
    sink: Annotated[str | None, typer.Option(help="Only to this sink. Default: to all of the feed's.")] = None,
) -> None:
    """Send files again that sinks had before, as they were."""
    stack: Stack = ctx.obj
    stores.feed_status(stack).definition(feed, sink)
    _deliver(stack, {"feed": feed, "names": names, **({"sink": sink} if sink else {})})


@app.command()
def write(ctx: typer.Context, feed: Feed) -> None:
    """Write and deliver now what there is, also to sinks that would wait after a failure."""
    stack: Stack = ctx.obj
    stores.feed_status(stack).definition(feed)
    said = stores.invoke(stack, stack.write_feed_function, {"feed": feed, "at_once": True})
    say(f"written: {_WRITTEN.get(said.get(feed), said.get(feed) or 'failed, see the log of write_feed')}")
    _deliver(stack, {"feed": feed, "at_once": True})


@app.command("check")
def check_(
    ctx: typer.Context,
    feed: Annotated[str | None, typer.Argument(metavar="[FEED]", help="As it lies in the archive.")] = None,
    folder_: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="What lies in a folder instead.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Only so many batches; parents are not looked for then.")
    ] = None,
    definitions: Definitions = None,
) -> None:
    """Whether files are whole and as their manifests say, without gaps, doubles, and responses before their sends.

    Exit status 1 if anything is wrong.
    """
    if (feed is None) == (folder_ is None):
        raise typer.BadParameter("name a feed, or a folder with --folder", param_hint="FEED")
    if folder_ is not None:
        known = layouts(definitions)
        found = folder(folder_, known)
        present, findings = found.present, found.findings
    else:
        known, present = _present(ctx.obj, str(feed), last)
        findings = []
    findings = [*findings, *check(present, known, parents=last is None)]
    for finding in findings:
        say(str(finding))
    rows = sum(one.file.rows for one in present)
    say(f"{len(present):,} files, {rows:,} rows: {f'{len(findings):,} problems' if findings else 'all is well'}")
    if findings:
        raise typer.Exit(1)


_WRITTEN = {
    "committed": "a batch",
    "nothing": "nothing new",
    "early": "nothing: the last batch is too new, and there are too few events (see `rotate`)",
    "busy": "nothing: somebody else is writing this feed",
}


def _present(stack: Stack, feed: str, last: int | None) -> tuple[Layouts, list[Present]]:
    """The files of a feed's batches, or of the last few."""
    status = stores.feed_status(stack)
    used, book = status.definition(feed)[1], status.book
    standing = book.standing(feed)
    after = max((standing.number if standing else 0) - last, 0) if last else 0
    archive = stores.feed_archive(stack)
    return {**layouts(None), **used}, [
        Present(file, partial(archive.get, feed, batch.token, file.name))
        for batch in book.batches(feed, after=after)
        for file in batch.files
    ]


def _deliver(stack: Stack, event: dict[str, Any]) -> None:
    """Have the deliverer do it and say what became of each sink. Exit status 1 if one failed."""
    said = stores.invoke(stack, stack.deliver_feed_function, event)
    for one in said:
        reason = f": {one['reason']}" if one["reason"] else ""
        say(f"{one['sink']}: {one['outcome'].replace('_', ' ')}, {one['files']:,} files{reason}")
    unfinished = {"failed", "try_again", "busy"} | (
        {"more"} if "names" in event else set()
    )  # a minute later it goes on
    if any(one["outcome"] in unfinished for one in said):
        raise typer.Exit(1)


def _content(stack: Stack, batch: Batch, file: FeedFile) -> bytes:
    try:
        return stores.feed_archive(stack).get(batch.feed, batch.token, file.name)
    except KeyError:
        raise Failed(f"{file.name} is no longer kept") from None
    except TryAgain as exc:
        raise Failed(str(exc)) from exc


def _feed_line(facts: dict[str, Any]) -> tuple[str, ...]:
    closed = (facts["closed_at"] or "never")[:16].replace("T", " ")
    return (
        facts["feed"],
        f"{facts['batch']:,}",
        closed,
        *(f"{facts[name]:,}" for name in ("files", "rows", "newly_waiting")),
    )


def _sink_line(feed: str, sink: dict[str, Any]) -> tuple[str, ...]:
    state = "has all" if not sink["lacks"] else f"from {sink['due'][:16]}" if sink["due"] else "is getting on"
    if sink["failures"]:
        again = (sink["again_at"] or "")[11:16]
        state = f"failed {sink['failures']:,} times, again at {again}: {sink['reason']}"
    lacks = f"{sink['lacks']:,} files" if sink["lacks"] else ""
    return f"{feed}/{sink['sink']}", lacks, state


def _file_line(file: FeedFile) -> tuple[str, ...]:
    kind = f"corrects {file.corrects}" if file.corrects else file.kind
    return f"{file.rows:,}", f"{file.size:,}", kind, file.name
