// The owner, who holds the device and does what the application asks: one code or two, at once or later.

import { advance, deviceOf } from "./local.js";

/** Signs in. Waits by moving the test clock. Returns the last exchange. */
export async function signIn(client, who) {
  await unusedCodes(who); // before the start, since a long wait would outlive the authId
  const started = await client.start(who);
  if (started.status !== 201) {
    return started;
  }
  let { codesRequired } = started;
  let answer;
  // Once more for two codes, and once more after a wait.
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const codes = await unusedCodes(who);
    answer = await client.validate(started.json.authId, codesRequired === 2 ? { otps: codes.otps } : { otp: codes.otp });
    if (answer.status === 429) {
      await advance(answer.json.retryAfterSeconds);
    } else if (answer.status === 422) {
      codesRequired = answer.json.codesRequired;
    } else {
      return answer;
    }
  }
  return answer;
}

/** The codes that the app shows, once it shows one that was not used before. */
async function unusedCodes(who) {
  const { now, device } = await deviceOf(who);
  const { step, lastStep, codes } = device;
  if (step > lastStep) {
    return codes;
  }
  const intoStep = Math.floor(Date.parse(now) / 1000) % codes.periodSeconds;
  await advance((lastStep + 1 - step) * codes.periodSeconds - intoStep);
  return (await deviceOf(who)).device.codes;
}
