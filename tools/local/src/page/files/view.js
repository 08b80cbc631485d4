// What is shown. Text goes into the page as text, never as HTML.

import { shownBody } from "./client.js";
import { qrCodeOf } from "./local.js";

const MOST_EXCHANGES = 12;
const MOST_LOG_LINES = 100;

export const element = (id) => document.getElementById(id);

function create(name, { className = "", ...attributes } = {}, ...children) {
  const created = Object.assign(document.createElement(name), attributes);
  created.className = className;
  created.append(...children);
  return created;
}

/** Sets text only if it changed, so that a screen reader does not hear it again. */
function setText(id, text) {
  if (element(id).textContent !== text) {
    element(id).textContent = text;
  }
}

/** The line at the bottom, which screen readers announce. */
export const showOutcome = (text) => setText("outcome", text);

const kindOf = (status) => (status < 300 ? "good" : status < 500 ? "refused" : "failed");

export function showExchange(exchange) {
  const { title, method, path, requestHeaders, requestBody, status, answerHeaders, json } = exchange;
  const lines = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const request = [`${method} ${path}`, ...lines(requestHeaders), requestBody && `\n${requestBody}`];
  const answer = [`HTTP ${status}`, ...lines(answerHeaders), json && `\n${shownBody(json)}`];
  const outcome = json?.code ? ` ${json.code}` : "";
  const summary = create("summary", {}, create("span", { className: `badge ${kindOf(status)}` }, `${status}${outcome}`), ` ${title}`);
  const details = create(
    "details",
    { open: true },
    summary,
    create("pre", {}, request.filter(Boolean).join("\n")),
    create("pre", { className: "answer" }, answer.filter(Boolean).join("\n")),
  );
  const list = element("exchanges");
  for (const older of list.querySelectorAll("details")) {
    older.open = false;
  }
  list.prepend(create("li", {}, details));
  while (list.children.length > MOST_EXCHANGES) {
    list.lastElementChild.remove();
  }
}

/** What an answer means, in a sentence. */
export function describe({ title, status, json }) {
  const { code, message, codesRequired, attemptsRemaining, retryAfterSeconds, singleCodesAfterSeconds } = json ?? {};
  const parts = [`${title}: ${status}${code ? ` ${code}` : ""}.`];
  if (typeof message === "string") {
    parts.push(`${message}.`);
  }
  if (codesRequired !== undefined) {
    parts.push(codesRequired === 2 ? "Send two codes next." : "Send one code next.");
  }
  if (attemptsRemaining !== undefined) {
    parts.push(`${attemptsRemaining} attempts left on this authId.`);
  }
  if (singleCodesAfterSeconds !== undefined) {
    parts.push(`Single codes open in ${duration(singleCodesAfterSeconds)}.`);
  }
  if (retryAfterSeconds !== undefined) {
    parts.push(`Retry after ${retryAfterSeconds} s.`);
  }
  return parts.join(" ");
}

export function duration(seconds) {
  const units = [["day", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const shown = [];
  let rest = Math.abs(seconds);
  for (const [unit, length] of units) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0 && shown.length < 2) {
      shown.push(`${count} ${unit}${unit === "day" && count > 1 ? "s" : ""}`);
    }
  }
  return shown.join(" ") || "0 s";
}

export const time = (iso) => iso.slice(0, 19).replace("T", " ");

export function showClock(now, offsetSeconds) {
  setText("now", `${time(now)} UTC`);
  const direction = offsetSeconds > 0 ? "ahead of" : "behind";
  setText("offset", offsetSeconds === 0 ? "this machine's time" : `${duration(offsetSeconds)} ${direction} this machine`);
  element("app-clock").hidden = Math.abs(offsetSeconds) < 15;
}

export function showDevice(who, now, device) {
  element("app").hidden = device === null;
  element("app-none").hidden = device !== null;
  showQrCode(who, device);
  element("app-pending").hidden = !device?.pendingCodes;
  if (device !== null) {
    showCodes(now, device);
  }
  showState(now, device);
}

function showQrCode(who, device) {
  const picture = element("qr");
  picture.hidden = device === null;
  const address = device && qrCodeOf(who, device.seed);
  if (address && picture.getAttribute("src") !== address) {
    picture.src = address;
    picture.alt = `QR code of ${who.userName}'s device ${who.deviceName}, for an authenticator app`;
  }
}

const grouped = (code) => code.replace(/^(\d+)(\d{3}|\d{4})$/, (_, first, second) =>
  code.length === 6 ? `${code.slice(0, 3)} ${code.slice(3)}` : `${first} ${second}`);

function showCodes(now, { codes, pendingCodes }) {
  const { otp, otps, periodSeconds } = codes;
  const left = periodSeconds - (Math.floor(Date.parse(now) / 1000) % periodSeconds);
  setText("app-label", pendingCodes ? "Current code of the old seed" : "Current code");
  setText("app-code", grouped(otp));
  setText("app-next", grouped(otps[1]));
  setText("app-seconds-label", `${left} s left`);
  Object.assign(element("app-seconds"), { max: periodSeconds, value: left });
  setText("app-pending-code", pendingCodes ? grouped(pendingCodes.otp) : "");
}

function showState(now, device) {
  const rows = device === null ? [["Status", "not registered"]] : stateRows(now, device);
  const list = element("state");
  const text = JSON.stringify(rows);
  if (list.dataset.shown !== text) {
    list.dataset.shown = text;
    list.replaceChildren(...rows.flatMap(([name, value]) => [create("dt", {}, name), create("dd", {}, value)]));
  }
}

function stateRows(now, device) {
  const opens = (at) => {
    const seconds = Math.ceil((Date.parse(at) - Date.parse(now)) / 1000);
    return seconds > 0 ? `closed, open in ${duration(seconds)}` : "open";
  };
  const ago = device.step - device.lastStep;
  const used = device.lastStep === 0 ? "none yet" : `${device.lastStep} (${stepDistance(ago)})`;
  return [
    ["Status", device.status],
    ["Single codes", device.singleCodesAt === null ? "closed until two codes succeed" : opens(device.singleCodesAt)],
    ["Two codes", opens(device.pairsAt)],
    ["Consecutive wrong codes", String(device.consecutiveFailures)],
    ["Budget left", `${device.budgetLeft} of ${device.budget} wrong codes`],
    ["Wrong attempts ever", String(device.totalFailures)],
    ["Last step used", used],
    ["Current step", String(device.step)],
    ["Replacement", device.pendingCodes ? "a new seed waits for its first code" : "none"],
  ];
}

function stepDistance(ago) {
  if (ago === 0) {
    return "this one: its code is used";
  }
  return ago > 0 ? `${ago} ago` : `${-ago} ahead`;
}

export function addLogLines(lines) {
  const rows = lines.map((line) => {
    const cells = [
      time(line.timestamp).slice(11),
      line.function ?? `${line.method} ${line.resource}`,
      create("span", { className: `badge ${kindOf(line.status)}` }, String(line.status)),
      line.outcome ?? "",
      line.reason ?? "",
      line.device ?? "",
    ];
    return create("tr", {}, ...cells.map((cell) => create("td", {}, cell)));
  });
  const body = element("log");
  body.prepend(...rows.reverse());
  while (body.children.length > MOST_LOG_LINES) {
    body.lastElementChild.remove();
  }
}
