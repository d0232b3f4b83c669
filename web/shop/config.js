/* Where the shop reports to: ?endpoint=…&key=… in the address, kept while the tab is open, or written here. */
const espialConfig = { endpoint: "", writeKey: "" };
for (const [asked, setting] of Object.entries({ endpoint: "endpoint", key: "writeKey", consent: "consent", socket: "socket" })) {
  const given = new URLSearchParams(location.search).get(asked);
  try {
    if (given) sessionStorage.setItem(setting, given);
    espialConfig[setting] = given ?? sessionStorage.getItem(setting) ?? espialConfig[setting];
  } catch {
    espialConfig[setting] = given ?? espialConfig[setting]; // storage is off
  }
}
window.espialConfig = espialConfig;
