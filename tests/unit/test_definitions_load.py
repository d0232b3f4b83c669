"""A folder of definitions: what is accepted, and how each mistake is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from espial import sources
from espial.definitions.load import load, stages
from espial.definitions.models import ConnectionDefinition
from espial.deliveries import Connection
from espial.errors import InvalidDefinition

FILES = {
    "connections/esp.yaml": "platform: sendgrid\nsecrets:\n  - secretsmanager:espial/esp\n",
    "providers/ses.yaml": "sender: ses\nfrom: The shop <shop@example.com>\n",
    "templates/hello/template.yaml": "subject: Hello\ncategory: transactional\n",
    "templates/hello/body.html": (
        '<html><head><meta name="color-scheme" content="light dark"></head><body><p>Hello</p></body></html>\n'
    ),
    "triggers/hello.yaml": (
        "on: [cart_updated]\nkey: event.commerce.cart.id\nwait: 1h\nsend:\n  provider: ses\n  template: hello\n"
    ),
    "stages/local.yaml": "triggers:\n  hello:\n    wait: 3s\n",
}


def write(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """The good files above with some replaced; None leaves one out."""
    for name, text in {**FILES, **files}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def problems(root: Path, files: Mapping[str, str | bytes | None], stage: str | None = None) -> list[str]:
    with pytest.raises(InvalidDefinition) as refused:
        load(write(root, files), stage)
    return [problem.removeprefix(f"{root}/") for problem in refused.value.problems]


def test_good_definitions_load_by_file_name(tmp_path):
    """The file's name is the definition's name, so it need not be repeated."""
    checked = load(write(tmp_path, {}))
    assert ["esp"] == list(checked.connections)
    assert "hello" == checked.triggers["hello"].name
    assert "Hello" == checked.templates["hello"]["subject"]


def test_a_published_connection_is_what_the_functions_read(tmp_path):
    """No field of one is unknown to the other, and identity is scoped by the connection unless it says otherwise."""
    published = load(write(tmp_path, {})).connections["esp"].published()
    assert Connection(
        name="esp", platform="sendgrid", secrets=("secretsmanager:espial/esp",), account="esp"
    ) == Connection.from_dict(published)


def test_where_a_platform_posts_and_drops_is_derived():
    """Both follow from platform and name, so nobody can mistype them."""
    connection = ConnectionDefinition(name="main", platform="braze", secrets=("ssm:/espial/main",))
    assert "exports/braze/main/" == connection.export_prefix
    assert "/in/braze/main" == connection.path


def test_a_stage_changes_only_what_it_says(tmp_path):
    """The local stage shortens a wait and leaves the rest as reviewed."""
    root = write(tmp_path, {})
    assert ["local"] == stages(root)
    there, here = load(root).triggers["hello"], load(root, "local").triggers["hello"]
    assert (3600, 3) == (there.wait.total_seconds(), here.wait.total_seconds())
    assert there.send == here.send


BAD = [
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrid\nsecret: x\nsecrets: []\n"},
        ["connections/esp.yaml:2: secret: unknown field (did you mean secrets?)"],
        id="typo in a field",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrid\nsecrets: []\ndedupe_days: sixty\n"},
        ["connections/esp.yaml:3: dedupe_days: must be a valid integer, not 'sixty'"],
        id="wrong type",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrid\nsecrets: []\nsettings:\n  max_age_seconds: 1h\n"},
        ["connections/esp.yaml:4: settings.max_age_seconds: must be a number of seconds"],
        id="a tolerance in words",
    ),
    *(
        pytest.param(
            {"connections/esp.yaml": f"platform: segment\nsecrets: []\nsettings:\n  allowed_origins: {origins}\n"},
            ["connections/esp.yaml:4: settings.allowed_origins: must be a list of origins such as"],
            id=f"origins no browser names: {origins}",
        )
        for origins in ("https://shop.example.com", "[https://shop.example.com/]", "[shop.example.com]", "['https://']")
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrid\nsecrets: []\nenabled: no\n"},
        ["connections/esp.yaml:3: enabled: must be a valid boolean, not 'no'"],
        id="a word that is no boolean",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrid\nsecrets: []\ndedupe_days: 0\n"},
        ["connections/esp.yaml:3: dedupe_days: must be greater than or equal to 1, not 0"],
        id="out of range",
    ),
    pytest.param(
        {"connections/esp.yaml": "secrets: []\n"},
        ["connections/esp.yaml:1: platform: is missing"],
        id="missing field",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: sendgrib\nsecrets: []\n"},
        [f"connections/esp.yaml:1: platform: no such platform, must be one of {', '.join(sources.NAMES)}"],
        id="unknown platform",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: braze\n"},
        ["connections/esp.yaml:1: secrets: is missing: name where the platform's secret is kept, or write"],
        id="neither secrets nor unsigned",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: braze\nsecrets: [ssm:/espial/a]\nunsigned: true\n"},
        ["connections/esp.yaml:3: unsigned: contradicts `secrets`"],
        id="secrets and unsigned",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: braze\nsecrets: []\nsettings:\n  zone: eu\n  api_key: abc\n"},
        ["connections/esp.yaml:5: settings.api_key: reads like a secret"],
        id="secret among settings",
    ),
    pytest.param(
        {"connections/esp.yaml": "name: other\nplatform: braze\nsecrets: []\n"},
        ["connections/esp.yaml:1: name: must be 'esp', as the file is called"],
        id="duplicate or differing name",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: braze\nsecrets: []\nsecrets: []\n"},
        ["connections/esp.yaml:3: secrets: given twice, first on line 2"],
        id="duplicate key",
    ),
    pytest.param(
        {"connections/esp.yaml": "platform: braze\nsettings:\n\tzone: eu\n"},
        ["connections/esp.yaml:3: not YAML: a tab where only spaces may indent"],
        id="tab",
    ),
    pytest.param(
        {"connections/esp.yml": "platform: braze\nsecrets: []\n"},
        ["connections/esp.yml: not a definition: connections/ holds files named <name>.yaml"],
        id="other suffix",
    ),
    pytest.param(
        {"connections/Main Shop.yaml": "platform: braze\nsecrets: []\n"},
        ["connections/Main Shop.yaml: the file's name must be lower-case letters"],
        id="file name",
    ),
    pytest.param(
        {"providers/ses.yaml": "sender: ses\nfrom: the shop\n"},
        ["providers/ses.yaml:2: from: must be an address"],
        id="sender's address",
    ),
    pytest.param(
        {"providers/ses.yaml": "sender: sendgrid\nfrom: a@example.com\n"},
        ["providers/ses.yaml:1: secrets: api_key is missing"],
        id="provider's secret",
    ),
    pytest.param(
        {"providers/ses.yaml": "sender: sendgrid\nfrom: a@example.com\nsecrets:\n  api_key: SG.abcdef\n"},
        ["providers/ses.yaml:4: secrets.api_key: must be a reference"],
        id="provider's secret itself",
    ),
    pytest.param(
        {
            "providers/ses.yaml": "sender: sendgrid\nfrom: a@example.com\nsecrets:\n"
            "  api_key: secretsmanager:espial/x\nsettings:\n  region: mars\n"
        },
        ["providers/ses.yaml:6: settings.region: must be 'us' or 'eu'"],
        id="provider's setting",
    ),
    pytest.param(
        {"triggers/hello.yaml": FILES["triggers/hello.yaml"] + "  channel: sms\n"},
        ["triggers/hello.yaml:5: send.provider: provider ses sends email, and this trigger is of sms"],
        id="provider's channel",
    ),
    pytest.param(
        {"triggers/hello.yaml": FILES["triggers/hello.yaml"].replace("1h", "1 hour")},
        ["triggers/hello.yaml:3: wait: a duration such as 30m"],
        id="duration",
    ),
    pytest.param(
        {"triggers/hello.yaml": FILES["triggers/hello.yaml"].replace("event.commerce.cart.id", "'event.commerce +'")},
        ["triggers/hello.yaml:2: key: "],
        id="bad CEL",
    ),
    pytest.param(
        {
            "triggers/hello.yaml": FILES["triggers/hello.yaml"]
            + "conditions:\n  - name: a\n    when: 'true'\n  - name: b\n    when: 'nobody.knows'\n"
        },
        ["triggers/hello.yaml:11: conditions[1].when: "],
        id="bad CEL in a list",
    ),
    pytest.param(
        {"triggers/hello.yaml": FILES["triggers/hello.yaml"].replace("template: hello", "template: helo")},
        ["triggers/hello.yaml:6: send.template: no template named 'helo' (did you mean hello?)"],
        id="missing template",
    ),
    pytest.param(
        {"providers/ses.yaml": None},
        ["triggers/hello.yaml:5: send.provider: no provider named 'ses' (known: none)"],
        id="missing provider",
    ),
    pytest.param(
        {"templates/hello/body.html": "<html><body>{{ person.name }}</body></html>"},
        ["templates/hello/body.html:1: unknown variable 'person.name'"],
        id="undeclared variable in a template",
    ),
    pytest.param({"templates/stray.txt": "x"}, ["templates/stray.txt: not a template"], id="file among templates"),
    pytest.param(
        {"conections/a.yaml": "a: 1"},
        ["conections: no such kind of definition (did you mean connections?)"],
        id="unknown folder",
    ),
    pytest.param({"notes.txt": "a"}, ["notes.txt: stray file"], id="stray file"),
    pytest.param(
        {"stages/local.yaml": "triggers:\n  helo:\n    wait: 3s\n"},
        ["stages/local.yaml:2: triggers.helo: no such definition (did you mean hello?)"],
        id="overlay of nothing",
    ),
    pytest.param(
        {"stages/local.yaml": "templates:\n  hello:\n    subject: x\n"},
        ["stages/local.yaml:1: templates: a stage may change campaigns, connections, destinations, feeds, layouts, on"],
        id="overlay of a kind that has none",
    ),
    pytest.param(
        {"stages/local.yaml": "triggers:\n  hello: 3s\nproviders: x\n"},
        [
            "stages/local.yaml:2: triggers.hello: must map fields to what they are in this stage",
            "stages/local.yaml:3: providers: must map names to what changes",
        ],
        id="overlay of the wrong shape",
    ),
    pytest.param(
        {"stages/local.yaml": "triggers:\n  hello:\n    name: other\n"},
        ["stages/local.yaml:3: triggers.hello.name: a stage cannot rename"],
        id="overlay that renames",
    ),
]


@pytest.mark.parametrize(("files", "expected"), BAD)
def test_each_mistake_names_file_line_and_field(tmp_path, files, expected):
    """One mistake is one problem, at its place, with advice where there is some to give."""
    found = problems(tmp_path, files)
    assert len(expected) == len(found), found
    for start, problem in zip(expected, found, strict=True):
        assert problem.startswith(start)


def test_a_literal_secret_is_refused_with_advice_and_never_repeated(tmp_path):
    """What is refused may be the secret itself: it must not reach a terminal or a build log."""
    secret = "SG.not-a-reference"
    (found,) = problems(
        tmp_path, {"connections/esp.yaml": f"platform: sendgrid\nsecrets:\n  - ssm:/espial/fine\n  - {secret}\n"}
    )
    assert found.startswith("connections/esp.yaml:4: secrets[1]: must be a reference, `secretsmanager:espial/NAME`")
    assert "store the value in AWS Secrets Manager" in found
    assert secret not in found


def test_a_problem_of_a_stage_points_into_the_stage(tmp_path):
    """The base file is right; the line to mend is the overlay's."""
    overlay = {"stages/local.yaml": "triggers:\n  hello:\n    wait: soon\n    wiat: 3s\n"}
    found = problems(tmp_path, overlay, "local")
    assert found[0].startswith("stages/local.yaml:3: wait: a duration such as 30m")
    assert found[1].startswith("stages/local.yaml:4: wiat: unknown field (did you mean wait?)")
    assert load(tmp_path).triggers["hello"].wait.total_seconds() == 3600


def test_an_unknown_stage_names_the_known_ones(tmp_path):
    """A misspelt stage must not quietly apply production's settings."""
    assert ["stages: no stage named 'lokal' (known: local)"] == problems(tmp_path, {}, "lokal")


MARKETING = {
    "templates/hello/template.yaml": "subject: Hello\n",
    "templates/hello/body.html": "<html><body>{{ unsubscribe_url }}</body></html>\n",
}


def test_marketing_needs_consent_and_a_way_out(tmp_path):
    """Found when applied, not by the first person who had said no."""
    found = problems(tmp_path, MARKETING)
    assert [
        "triggers/hello.yaml:1: consent: is missing",
        "triggers/hello.yaml:5: send.provider: provider ses has no unsubscribe_url",
    ] == [found[0].partition(": template")[0], found[1].partition(", and")[0]]
    agreed = {"triggers/hello.yaml": FILES["triggers/hello.yaml"] + "consent: {}\n"}
    way_out = {
        "providers/ses.yaml": FILES["providers/ses.yaml"] + "unsubscribe_url: https://example.com/u?m={message}\n"
    }
    assert "marketing" == load(write(tmp_path, MARKETING | agreed | way_out)).templates["hello"]["category"]


def test_all_problems_are_told_at_once_in_file_order(tmp_path):
    """Whoever mends one sees the others too."""
    found = problems(
        tmp_path,
        {
            "connections/esp.yaml": "platform: x\nsecrets: [plain]\ntypo: 1\n",
            "providers/ses.yaml": "sender: pigeon\nfrom: a@example.com\n",
            "triggers/hello.yaml": "on: []\n",
        },
    )
    assert ["connections/esp.yaml:1", "connections/esp.yaml:2", "connections/esp.yaml:3", "providers/ses.yaml:1"] == [
        ":".join(problem.split(":")[:2]) for problem in found[:4]
    ]
    assert {"on", "key", "send"} == {problem.split(":")[2].strip() for problem in found[4:]}


def test_a_missing_folder_is_a_problem_not_an_empty_configuration(tmp_path):
    """A mistyped path must not remove every connection."""
    with pytest.raises(InvalidDefinition, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")


PAGES = "platform: espial_pages\nsecrets:\n  - secretsmanager:espial/pages\n"
TRACKED = FILES["triggers/hello.yaml"] + "  track: [links]\n"


def test_tracking_needs_a_secret_that_signs_the_links(tmp_path):
    """Found before the first mail goes out untracked."""
    what = (
        "triggers/hello.yaml:7: send.track: needs a connection of platform espial_pages, whose secret signs the links"
    )
    assert [what] == problems(tmp_path, {"triggers/hello.yaml": TRACKED})
    empty = "platform: espial_pages\nsecrets: []\n"
    assert [what] == problems(tmp_path, {"triggers/hello.yaml": TRACKED, "connections/pages.yaml": empty})
    checked = load(write(tmp_path, {"triggers/hello.yaml": TRACKED, "connections/pages.yaml": PAGES}))
    assert ("links",) == checked.triggers["hello"].send.track


def test_our_own_page_is_a_way_out(tmp_path):
    """A marketing trigger by a provider without a page of its own."""
    marketing = {
        "templates/hello/template.yaml": "subject: Hello\n",
        "templates/hello/body.html": "<html><body>{{ unsubscribe_url }}</body></html>\n",
        "triggers/hello.yaml": FILES["triggers/hello.yaml"] + "consent: {channel: email}\n",
    }
    (problem,) = problems(tmp_path, marketing)
    assert problem.startswith("triggers/hello.yaml:5: send.provider: provider ses has no unsubscribe_url")
    assert "pages" in load(write(tmp_path, {**marketing, "connections/pages.yaml": PAGES})).connections


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ("{topics: [offers]}", "topics: must map each topic to the title that readers see"),
        ("{topics: {offers: ''}}", "topics: must map each topic to the title that readers see"),
        ("{hosts: ['https://shop.example.com/']}", "hosts: must be a list of host names such as `shop.example.com`"),
        ("{sender: [x]}", "sender: must be the name that readers know"),
    ],
)
def test_what_a_page_could_not_show_is_refused(tmp_path, settings, what):
    """With the setting to blame."""
    (problem,) = problems(tmp_path, {"connections/pages.yaml": f"{PAGES}settings: {settings}\n"})
    assert problem.endswith(f"settings: {what}")
