// Connects the buttons with what they do. One action at a time; the state is read every second and after each action.

import { floodWithPairs, guessForADay, wrongCode } from "./attacker.js";
import { Client } from "./client.js";
import { advance, deviceOf, logAfter, stack } from "./local.js";
import { signIn } from "./owner.js";
import { addLogLines, describe, duration, element, showClock, showDevice, showExchange, showOutcome, time } from "./view.js";

const POLL_MILLIS = 1_000;

let client;
/** The last answer of deviceOf. */
let current = { device: null, offsetSeconds: 0 };
let lastLogLine = 0;
/** What step 3 and the activation continue. */
let authId = null;
let activationId = null;
let lastOffer = null;

const who = () => ({ userName: element("user").value, deviceName: element("device").value });

// Reading

let reading = Promise.resolve();

/** Reads device and log after all earlier reads, so that no older answer is shown over a newer one. */
function refresh() {
  reading = reading.then(read, read);
  return reading;
}

async function read() {
  const names = who();
  const [state, log] = await Promise.all([names.userName && names.deviceName ? deviceOf(names) : current, logAfter(lastLogLine)]);
  current = state;
  showClock(state.now, state.offsetSeconds);
  showDevice(names, state.now, state.device);
  addLogLines(log.lines);
  lastLogLine = log.last;
}

async function poll() {
  if (!document.hidden) {
    await refresh().catch(() => showOutcome("The local stack does not answer. Start it again with: cargo run -p local"));
  }
  setTimeout(poll, POLL_MILLIS);
}

// Acting

let busy = false;

/** Runs an action, unless one is running, and shows the sentence that it returns. */
async function act(action) {
  if (busy) {
    return;
  }
  busy = true;
  try {
    showOutcome("Working…");
    const outcome = await action();
    await refresh();
    showOutcome(outcome);
  } catch (error) {
    showOutcome(`That did not work: ${error.message}`);
  } finally {
    busy = false;
  }
}

const onClick = (id, action) => element(id).addEventListener("click", () => act(action));
const onSubmit = (id, action) =>
  element(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act(action);
  });

/** Runs an action on the device, which must exist. */
const withDevice = (action) => async () => {
  await refresh();
  return current.device === null ? "This user has no such device. Register it first." : action(current.device);
};

const digitsOf = (device) => device.codes.otp.length;
const knownCodes = (device) => device.codes.otps;

const usedHint = ({ step, lastStep }) => (step > lastStep ? "" : " It was used before: wait for the next one, or move the clock.");

function fill(code, nextCode = "") {
  element("code").value = code;
  element("next-code").value = nextCode;
}

async function start() {
  const started = await client.start(who());
  authId = started.json.authId ?? null;
  element("auth").textContent = authId
    ? `Started: authId ${authId.slice(0, 8)}…, expires at ${started.answerHeaders["auth-expires-at"].slice(11, 19)} UTC.`
    : "Not started.";
  const twoCodes = started.codesRequired === 2 ? " Single codes are refused: ask for two codes." : "";
  return describe(started) + twoCodes;
}

async function send() {
  if (authId === null) {
    return "Start an authentication first (step 2).";
  }
  const [code, nextCode] = [element("code").value, element("next-code").value];
  lastOffer = nextCode ? { otps: [code, nextCode] } : { otp: code };
  return describe(await client.validate(authId, lastOffer));
}

async function replay() {
  if (lastOffer === null) {
    return "Send a code first; it is sent again with a new authId.";
  }
  const started = await client.start(who());
  return describe(started.status === 201 ? await client.validate(started.json.authId, lastOffer) : started);
}

async function register() {
  const registered = await client.register(who(), element("replace").checked);
  activationId = registered.json.authId ?? null;
  return describe(registered);
}

async function activate() {
  if (activationId === null) {
    return "Register the device first.";
  }
  return describe(await client.activate(who().userName, activationId, { otp: element("first-code").value }));
}

async function attack(device) {
  element("attack-progress").value = 0;
  element("attack-result").textContent = "Guessing…";
  const count = await guessForADay(client, who(), digitsOf(device), (part) => {
    element("attack-progress").value = part;
  });
  const tried = `Guesses in a day of the test clock: ${count.evaluated} evaluated, ${count.refused} refused.`;
  const guessed = count.guessedRight ? " One was right, by chance." : " None was right.";
  const owner = await signIn(client, who());
  const codes = owner.requestBody.includes("otps") ? "two codes" : "one code";
  const entered = owner.status === 200 ? `Then the owner signed in with ${codes}.` : "Then the owner could not sign in.";
  element("attack-result").textContent = `${tried}${guessed} ${entered}`;
  return describe(owner);
}

async function flood(device) {
  const { evaluated, refused } = await floodWithPairs(client, who(), digitsOf(device));
  element("attack-result").textContent =
    `${evaluated} wrong pairs were evaluated, then one was refused with 429. Only such a flood, kept up and timed to each opening, keeps an owner out; it is alarmed.`;
  return `Flood: ${evaluated} evaluated, ${refused} refused.`;
}

async function moveClock(seconds) {
  await advance(seconds);
  return `The clock was moved ${seconds < 0 ? "back" : "forward"} by ${duration(seconds)}.`;
}

async function goBackToMachineTime() {
  const outcome = await moveClock(-current.offsetSeconds);
  await refresh();
  const { device } = current;
  if (device === null || device.lastStep <= device.step) {
    return outcome;
  }
  const until = new Date((device.lastStep + 1) * device.codes.periodSeconds * 1000).toISOString();
  return `${outcome} Codes until ${time(until)} are used up: remove and register the device to start over.`;
}

function connect() {
  onClick("get-token", async () => describe(await client.getToken()));
  onClick("start", start);
  onSubmit("validate", send);
  onClick("replay", replay);
  onClick("owner", withDevice(async () => describe(await signIn(client, who()))));
  onClick("fill-one", withDevice((device) => {
    fill(device.codes.otp);
    return `The current code is in the field.${usedHint(device)}`;
  }));
  onClick("fill-two", withDevice((device) => {
    fill(...device.codes.otps);
    return `The current code and the next one are in the fields.${usedHint(device)}`;
  }));
  onClick("fill-wrong", withDevice((device) => {
    fill(wrongCode(digitsOf(device), knownCodes(device)));
    return "A wrong code is in the field.";
  }));
  onSubmit("register", register);
  onSubmit("activate", activate);
  onClick("fill-first", withDevice(({ codes, pendingCodes }) => {
    element("first-code").value = (pendingCodes ?? codes).otp;
    return "The first code of the new seed is in the field.";
  }));
  onClick("list", async () => describe(await client.list(who())));
  onClick("remove", async () => describe(await client.remove(who())));
  onClick("attack", withDevice(attack));
  onClick("flood", withDevice(flood));
  for (const button of document.querySelectorAll("[data-advance]")) {
    button.addEventListener("click", () => act(() => moveClock(Number(button.dataset.advance))));
  }
  onClick("real-time", goBackToMachineTime);
  for (const id of ["user", "device"]) {
    element(id).addEventListener("change", () => {
      authId = activationId = lastOffer = null;
      element("auth").textContent = "Nothing started.";
      refresh();
    });
  }
}

const description = await stack();
client = new Client(description, showExchange);
element("user").value = description.demo.userName;
element("device").value = description.demo.deviceName;
connect();
showOutcome("Ready. Begin with step 1, or sign in as the owner.");
poll();
