// The attacker, who knows the user's password and guesses codes at the sign-in form, as often as the service lets them.

import { advance } from "./local.js";

const DAY_SECONDS = 86_400;
const MOST_PAIRS = 100;

/** A code of so many digits that is none of the `known` ones. */
export function wrongCode(digits, known = []) {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  const code = String(random % 10 ** digits).padStart(digits, "0");
  return known.includes(code) ? wrongCode(digits, known) : code;
}

/** Guesses single codes for a day of the test clock. `onProgress` gets the part of the day that is over. */
export async function guessForADay(client, who, digits, onProgress) {
  const count = { evaluated: 0, refused: 0, guessedRight: false };
  let passed = 0;
  while (passed < DAY_SECONDS && !count.guessedRight) {
    const answer = await guessUntilRefused(client, who, digits, count);
    // Absent if time alone does not open single codes again.
    const wait = Math.min(answer?.json?.singleCodesAfterSeconds ?? DAY_SECONDS, DAY_SECONDS - passed);
    await advance(wait);
    passed += wait;
    onProgress(passed / DAY_SECONDS);
  }
  return count;
}

/** Starts authentications and guesses until single codes are refused or a guess is right. Returns the last answer. */
async function guessUntilRefused(client, who, digits, count) {
  for (;;) {
    const started = await client.start(who);
    if (started.status !== 201) {
      return started;
    }
    for (let left = 1; left > 0; ) {
      const answer = await client.validate(started.json.authId, { otp: wrongCode(digits) });
      if (answer.status === 200) {
        count.guessedRight = true;
        return answer;
      }
      if (answer.json.code !== "OTP_REJECTED") {
        count.refused += 1;
        return answer;
      }
      count.evaluated += 1;
      left = answer.json.attemptsRemaining;
    }
  }
}

/** Sends wrong pairs until one is refused because they come too fast. */
export async function floodWithPairs(client, who, digits) {
  const count = { evaluated: 0, refused: 0 };
  const started = await client.start(who);
  while (started.status === 201 && count.refused === 0 && count.evaluated < MOST_PAIRS) {
    const answer = await client.validate(started.json.authId, { otps: [wrongCode(digits), wrongCode(digits)] });
    count[answer.status === 429 ? "refused" : "evaluated"] += 1;
  }
  return count;
}
