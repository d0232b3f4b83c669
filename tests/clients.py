"""Who opens and clicks: a labelled set of clients, people's and machines', put together from parts (goal 25).

Names, forms and versions are those that occur; addresses are from the ranges for documentation, but for Apple's own
network. Among the machines are some that nothing gives away, among the people some that look odd.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from typing import NamedTuple

from espial.vocabulary import EventType


class Labelled(NamedTuple):
    """One open or click, and who did it."""

    machine: bool
    type: EventType
    agent: str
    ip: str


_OPENED, _CLICKED = EventType.OPENED, EventType.CLICKED
_IPS = [f"{network}.{host}" for network in ("192.0.2", "198.51.100", "203.0.113") for host in (7, 84, 200)]
_IPS += ["2001:db8::7", "2001:db8:1::84", ""]
_VERSIONS = ("118", "126", "131", "138", "142")
_KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_APPLE_KIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"

_DESKTOPS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "X11; CrOS x86_64",
)
_OF_CHROME = (
    "",
    " Edg/{0}.0.0.0",
    " OPR/{0}.0.0.0",
    " Vivaldi/7.{0}",
    " YaBrowser/24.{0} Yowser/2.5",
    " Avast/{0}.0.0.0",
)
_PHONES = (
    *("SM-S918B", "Pixel 8 Pro", "CPH2581", "moto g54", "22101316UG", "V2250", "M2102J20SG", "RMX3686"),
    *("CUBOT_P80", "CUBOT KINGKONG 9", "Cubot Note 21", "KFMAWI", "LE2113", "HUAWEI P60", "Nokia G42", "A059"),
)
_IN_APPS = (
    "[FBAN/FBIOS;FBAV/480.0.0.31;FBDV/iPhone15,2;FBLC/de_DE]",
    "Instagram 350.0.0.30.93 (iPhone15,3; iOS 18_1; en_US; scale=3.00; 1290x2796)",
    "LinkedInApp/9.30.1",
    "[Pinterest/iOS]",
    "MicroMessenger/8.0.50(0x1800323d) NetType/WIFI Language/en",
    "Line/14.19.1",
    "Snapchat/13.10.0.40 (iPhone15,2; iOS 18.0; gzip)",
    "musical_ly_36.5.0 BytedanceWebview/d8a21c6",
    "GSA/345.0.700",
    "DuckDuckGo/7 Ddg/18.0",
)
_MAILERS = (
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/8.0; .NET4.0C; Microsoft Outlook 16.0.{0})",
    "Mozilla/4.0 (compatible; ms-office; MSOffice rmj; Outlook 16.0.{0})",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.{0}; Pro)",
    "Mozilla/5.0 (Windows NT 10.0; rv:{0}.0) Gecko/20100101 Thunderbird/{0}.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Thunderbird/{0}.5.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Airmail/{0}",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) eM Client/10.0.{0}",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Postbox/7.0.{0}",
    "Spark/3.{0} CFNetwork/1496.0.7 Darwin/23.5.0",
    "Outlook-iOS/729.{0}.prod.iphone (4.2447.0)",
    "Outlook-Android/4.{0} (Android 14; Google Pixel 7)",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "YahooMailProxy; https://help.yahoo.example.com/kb/{0}.html",
)
_ODD_PEOPLE = (
    "Opera/9.80 (Android; Opera Mini/36.2.2254/119.132; U; id) Presto/2.12.423 Version/12.16",
    "Mozilla/5.0 (Mobile; Nokia_8110_4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5",
    "Mozilla/5.0 (PlayStation; PlayStation 5/6.50) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (Nintendo Switch; WebApplet) AppleWebKit/609.4 (KHTML, like Gecko) NF/6.0.3 NintendoBrowser/5.1.0",
    "Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) 94.0.4606.31/7.0 TV Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/118.3 like Chrome/118",
    "Mozilla/5.0 (X11; U; Linux armv7l like Android; en-us) AppleWebKit/531.2+ (KHTML, like Gecko) Kindle/3.0+",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ (KHTML, like Gecko) Version/10.3.3.2205 Mobile Safari/537.10+",
    "Lynx/2.9.0dev.12 libwww-FM/2.14 SSL-MM/1.4.1 GNUTLS/3.7.8",
    "",
)

_TOOLS = (
    *("curl/8.{0}.0", "Wget/1.{0}", "python-requests/2.{0}.0", "Python-urllib/3.{0}", "python-httpx/0.{0}.0"),
    *("Python/3.12 aiohttp/3.{0}", "Go-http-client/1.1", "Go-http-client/2.0", "libwww-perl/6.{0}", "axios/1.{0}.0"),
    *("node-fetch/1.0 (+https://example.org/{0})", "Apache-HttpClient/4.5.{0} (Java/17.0.2)", "Java/17.0.{0}"),
    *("Scrapy/2.{0} (+https://example.org)", "PostmanRuntime/7.{0}.0"),
)
_CRAWLERS = (
    *("bingbot/2.0", "Googlebot/2.1", "YandexBot/3.0", "AhrefsBot/7.0", "SemrushBot/7~bl", "DotBot/1.2", "PetalBot"),
    *("Applebot/0.1", "Amazonbot/0.1", "GPTBot/1.2", "ClaudeBot/1.0", "CCBot/2.0", "Bytespider", "MJ12bot/v1.4.8"),
    *("Yahoo! Slurp", "DataForSeoBot/1.0", "Discordbot/2.0", "archive.org_bot", "SeznamBot/4.0"),
)
_PREVIEWS = (
    "Slackbot-LinkExpanding 1.0 (+https://api.example.com/robots)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@example.com",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; BingPreview/1.0b) Safari/537.36",
    "facebookexternalhit/1.1 (+http://www.example.com/externalhit_uatext.php)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.example.com)",
    "TelegramBot (like TwitterBot)",
    "Twitterbot/1.0",
)
_SCANNERS = (
    "BarracudaCentral/{0}.0",
    "Proofpoint/{0}",
    "Mimecast/{0} URLScan",
    "Forcepoint/{0}",
    "TrendMicro/{0}",
    "FireEye/{0}",
)
_HEADLESS = "Mozilla/5.0 (X11; Linux x86_64) {0} HeadlessChrome/{1}.0.0.0 Safari/537.36"


def _people() -> Iterator[tuple[EventType | None, str]]:
    for system, version, more in product(_DESKTOPS, _VERSIONS, _OF_CHROME):
        yield None, f"Mozilla/5.0 ({system}) {_KIT} Chrome/{version}.0.0.0 Safari/537.36{more.format(version)}"
    for system, version in product(_DESKTOPS[:3], _VERSIONS):
        yield None, f"Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
    for number, (model, version) in enumerate(product(_PHONES, _VERSIONS)):
        kit = f"{_KIT} SamsungBrowser/26.0" if model.startswith("SM-") else _KIT
        system = f"Linux; Android {10 + number % 6}; {model}"
        yield None, f"Mozilla/5.0 ({system}) {kit} Chrome/{version}.0.0.0 Mobile Safari/537.36"
    for device, system in product(("iPhone", "iPad"), ("16_7", "17_5", "18_1", "26_0")):
        head = f"Mozilla/5.0 ({device}; CPU {device} OS {system} like Mac OS X) {_APPLE_KIT}"
        yield _CLICKED, f"{head} Version/{system[:2]}.0 Mobile/15E148 Safari/604.1"
        yield _OPENED, f"{head} Mobile/15E148"
        for app in _IN_APPS:
            yield _CLICKED, f"{head} Mobile/15E148 {app}"
    for mailer, version in product(_MAILERS, _VERSIONS[:3]):
        yield _OPENED, mailer.format(version)
    for odd in _ODD_PEOPLE:
        yield None, odd


def _machines() -> Iterator[tuple[EventType | None, str]]:
    for tool, version in product(_TOOLS, ("2", "9", "31")):
        yield None, tool.format(version)
    for crawler in _CRAWLERS:
        yield None, f"Mozilla/5.0 (compatible; {crawler}; +http://www.example.com/bot.html)"
        yield None, f"Mozilla/5.0 {_KIT[:-1]}; compatible; {crawler}) Chrome/131.0.0.0 Safari/537.36"
    for scanner, version in product(_SCANNERS, ("1", "3")):
        yield None, scanner.format(version)
    for version in _VERSIONS:
        yield None, _HEADLESS.format(_KIT, version)
    for preview in _PREVIEWS:
        yield None, preview


def labelled() -> list[Labelled]:
    """The set: an open, or a click, of each client, or both in turn."""
    turns, ips = cycle((_OPENED, _CLICKED)), cycle(_IPS)
    found = [
        Labelled(machine, type_ or next(turns), agent, next(ips))
        for machine, clients in ((False, _people()), (True, _machines()))
        for type_, agent in clients
    ]
    found += [Labelled(True, _OPENED, "Mozilla/5.0", f"192.0.2.{host}") for host in range(1, 40)]
    found += [Labelled(True, _OPENED, f"Mozilla/5.0 (Macintosh) {_APPLE_KIT}", f"17.58.0.{host}") for host in range(10)]
    # A scanner may call itself Chrome, and one person in some hundreds works at Apple.
    disguised = f"Mozilla/5.0 ({_DESKTOPS[0]}) {_KIT} Chrome/131.0.0.0 Safari/537.36"
    found += [Labelled(True, _CLICKED, disguised, f"198.51.100.{host}") for host in range(20)]
    found.append(Labelled(False, _OPENED, f"Mozilla/5.0 ({_DESKTOPS[1]}) {_APPLE_KIT}", "17.0.2.7"))
    return found
