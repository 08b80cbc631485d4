// What a person does on the page, in a real browser: node journey.mjs ORIGIN MODULES CHROMIUM [SCREENSHOT]
//
// It waits for texts, never for time. Each part continues on the same stack.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [origin, modules, executablePath, screenshot] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const PATIENCE_MILLIS = 60_000;
const problems = [];
let newestPage;

/** A page on which nothing may go wrong unnoticed. */
async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 1000 }, ...options });
  context.setDefaultTimeout(PATIENCE_MILLIS);
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`error of the page: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) {
      problems.push(`request to another origin: ${request.url()}`);
    }
  });
  page.on("console", (message) => {
    // The browser reports every answer from 400 on; those of the API are what the page shows.
    const ofTheApi = message.text().startsWith("Failed to load resource") && message.location().url.startsWith(`${origin}/v1/`);
    if (["error", "warning"].includes(message.type()) && !ofTheApi) {
      problems.push(`console: ${message.text()}`);
    }
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`));
  });
  await page.goto(origin);
  newestPage = page;
  await says(page, "Ready.");
  return page;
}

const press = (page, name) => page.getByRole("button", { name, exact: true }).click();
const says = (page, text) => page.locator("#outcome", { hasText: text }).waitFor();
const shows = (page, id, text) => page.locator(`#${id}`, { hasText: text }).waitFor();

/** Presses a button and waits for its outcome; returns it. */
async function act(page, name, outcome) {
  await press(page, name);
  await says(page, outcome);
  return page.locator("#outcome").textContent();
}

async function signsIn(page) {
  await act(page, "1. Get a token", "Get a token: 200.");
  await act(page, "2. Start", "Start an authentication: 201.");
  await shows(page, "auth", /expires at \d\d:\d\d:\d\d UTC/);
  await act(page, "Type the app's code", "in the field");
  await act(page, "3. Send", "Validate a code: 200.");
  await shows(page, "state", "its code is used");
  const newest = await page.locator("#exchanges li").first().textContent();
  assert.match(newest, /POST \/v1\/deviceAuthentications\/[0-9a-f-]{36}.*"otp":"\d{6}".*HTTP 200.*OTP has been validated successfully/s);
  await shows(page, "log", "single_code");
  await act(page, "Replay the last code", "422 OTP_REPLAYED");
}

async function isLockedAndGetsIn(page) {
  await act(page, "+30 s", "moved forward by 30 s"); // the current code is used
  await act(page, "2. Start", "201");
  let outcome;
  for (let guess = 0; guess < 5 && !outcome?.includes("Send two codes next."); guess += 1) {
    await act(page, "Type a wrong code", "A wrong code");
    outcome = await act(page, "3. Send", "422 OTP_REJECTED");
  }
  assert.match(outcome, /Send two codes next\./);
  await shows(page, "state", /Single codesclosed, open in/);
  await act(page, "Type the app's code", "in the field");
  await act(page, "3. Send", "422 TWO_CODES_REQUIRED");
  await act(page, "Type two codes", "in the fields");
  await act(page, "3. Send", "Validate a code: 200.");
  await shows(page, "state", /Single codesopen/);
}

async function movesTheClock(page) {
  await act(page, "Back to this machine's time", "moved back by 30 s");
  await act(page, "+5 min", "moved forward by 5 min");
  await shows(page, "offset", "5 min ahead of this machine");
  await page.locator("#app-clock").waitFor({ state: "visible" });
  await act(page, "+1 day", "moved forward by 1 day");
  await act(page, "Back to this machine's time", "moved back by 1 day 5 min");
  await page.locator("#app-clock").waitFor({ state: "hidden" });
}

async function isAttacked(page) {
  await press(page, "Guess for a day");
  await shows(page, "attack-result", "the owner signed in with two codes");
  const result = await page.locator("#attack-result").textContent();
  const [, evaluated, refused] = result.match(/: (\d+) evaluated, (\d+) refused/).map(Number);
  assert.ok(evaluated >= 10 && evaluated <= 20 && refused >= 5, result);
  await says(page, "Validate a code: 200.");
  await act(page, "Back to this machine's time", "are used up");
  await act(page, "Flood with wrong pairs", /Flood: \d+ evaluated, 1 refused/);
  await act(page, "Sign in as the owner", "Validate a code: 200.");
}

const pictureOf = (page) => page.locator("#qr").getAttribute("src");

async function registersReplacesAndRemoves(page) {
  await page.getByLabel("User", { exact: true }).fill("me+tag@example.com");
  await page.getByLabel("Device", { exact: true }).fill("new phone");
  await page.keyboard.press("Tab");
  await shows(page, "state", "not registered");
  await act(page, "Sign in as the owner", "no such device");
  await act(page, "Register", "Register a device: 201.");
  const picture = page.getByRole("img", { name: "QR code of me+tag@example.com's device new phone" });
  await picture.waitFor();
  await page.waitForFunction(() => document.getElementById("qr").naturalWidth > 0);
  const first = await pictureOf(page);
  await shows(page, "state", "ACTIVATION_REQUIRED");
  await page.getByLabel("First code of the new seed").fill("000000");
  await act(page, "Activate", "422 OTP_REJECTED");
  await act(page, "Type the first code", "in the field");
  await act(page, "Activate", "Activate a device: 200.");
  await shows(page, "state", "ACTIVE");
  await act(page, "Register", "409 DEVICE_EXISTS");

  await page.getByLabel("Replace the seed of an active device").check();
  await act(page, "Register", "Register a device: 201.");
  await page.locator("#app-pending-code", { hasText: /\d{3} \d{3}/ }).waitFor();
  assert.notEqual(await pictureOf(page), first, "the QR code is the new seed's");
  await act(page, "Sign in as the owner", "Validate a code: 200.");
  await act(page, "+30 s", "moved forward");
  await act(page, "Type the first code", "in the field");
  await act(page, "Activate", "Activate a device: 200.");
  await page.locator("#app-pending").waitFor({ state: "hidden" });
  await act(page, "Sign in as the owner", "Validate a code: 200.");

  await act(page, "List devices", "List devices: 200.");
  assert.match(await page.locator("#exchanges li").first().textContent(), /mfadevices.*"deviceName": "new phone"/s);
  await act(page, "Remove the device", "Remove a device: 204.");
  await shows(page, "state", "not registered");
}

/** Tabs to the element with a name, and checks on the way that focus can be seen. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const focused = document.activeElement;
      const style = getComputedStyle(focused);
      const footer = document.querySelector("footer").getBoundingClientRect().top;
      const { top, bottom } = focused.getBoundingClientRect();
      return {
        name: (focused.labels?.[0] ?? focused).textContent.trim(),
        tag: focused.tagName,
        outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
        inSight: top < footer && (bottom <= footer || bottom - top > footer),
      };
    });
    if (focused.tag !== "BODY") {
      assert.ok(focused.outline >= 2, `focus cannot be seen on ${focused.name}`);
      assert.ok(focused.inSight, `${focused.name} has the focus out of sight`);
    }
    if (focused.name === name) {
      return;
    }
  }
  assert.fail(`${name} cannot be reached with Tab`);
}

async function worksWithTheKeyboard(page) {
  const act = async (name, key, outcome) => {
    await tabTo(page, name);
    await page.keyboard.press(key);
    await says(page, outcome);
  };
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the steps", "the first stop");
  await page.keyboard.press("Enter");
  await tabTo(page, "User");
  await page.keyboard.type("keyboard user"); // what is there is selected on Tab
  await tabTo(page, "Device");
  await page.keyboard.type("keyboard");
  await tabTo(page, "Replace the seed of an active device");
  await page.keyboard.press("Space");
  assert.ok(await page.getByLabel("Replace the seed of an active device").isChecked());
  await act("Register", "Enter", "Register a device: 201.");
  await act("Type the first code", "Space", "in the field");
  await act("Activate", "Enter", "Activate a device: 200.");
  await act("+30 s", "Enter", "moved forward");
  await act("1. Get a token", "Enter", "Get a token: 200.");
  await act("2. Start", "Enter", "Start an authentication: 201.");
  await tabTo(page, "Code");
  await page.keyboard.type((await page.locator("#app-code").textContent()).trim());
  await page.keyboard.press("Enter");
  await says(page, "Validate a code: 200.");
  await act("Replay the last code", "Enter", "OTP_REPLAYED");
  await act("Remove the device", "Enter", "Remove a device: 204.");
}

/** In every look: no violation of axe's rules, nothing wider than the window, no motion. */
async function isAccessible(browser) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 900, 1360]) {
      const page = await open(browser, { colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" });
      const look = `${colorScheme}, ${width} px`;
      await act(page, "Sign in as the owner", "Validate a code: 200.");
      await act(page, "Replay the last code", "Send a code first");
      await act(page, "Type a wrong code", "A wrong code");
      await act(page, "2. Start", "201");
      await act(page, "3. Send", "422");
      await act(page, "+5 min", "moved forward");
      await page.evaluate(axe.source);
      const { violations, passes } = await page.evaluate(() => axe.run());
      for (const { id, help, nodes } of violations) {
        problems.push(`${look}: ${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
      }
      assert.ok(passes.some((rule) => rule.id === "color-contrast"), "axe has checked the colours");
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${look}: ${wide} px wider than the window`);
      assert.equal(await page.evaluate(() => document.getAnimations().length), 0, "nothing moves");
      await page.context().close();
    }
  }
}

async function takeScreenshot(browser) {
  const page = await open(browser);
  // A new device, with its budget.
  await act(page, "Remove the device", "204");
  await act(page, "Register", "201");
  await act(page, "Type the first code", "in the field");
  await act(page, "Activate", "200");
  await press(page, "Guess for a day");
  await shows(page, "attack-result", "the owner signed in");
  await says(page, "Validate a code: 200.");
  await page.setViewportSize({ width: 1360, height: 1210 });
  await page.evaluate(() => scrollTo(0, 0));
  await page.waitForFunction(() => document.getElementById("qr").complete);
  await page.screenshot({ path: screenshot });
  await page.context().close();
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await open(browser);
  for (const part of [signsIn, isLockedAndGetsIn, movesTheClock, isAttacked, registersReplacesAndRemoves]) {
    const started = performance.now();
    await part(page);
    console.log(`${part.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
  await page.context().close();
  await worksWithTheKeyboard(await open(browser));
  console.log("worksWithTheKeyboard");
  await isAccessible(browser);
  console.log("isAccessible");
  if (screenshot) {
    await takeScreenshot(browser);
  }
} catch (error) {
  console.error("The page shows:", await newestPage?.innerText("body"), problems);
  throw error;
} finally {
  await browser.close();
}
assert.deepEqual(problems, []);
console.log("The page works, without a problem in the console.");
