// What exists only in the local tool: credentials, the test clock, a device's state and codes, the log.

async function answerOf(request) {
  const response = await request;
  const body = await response.json();
  if (!response.ok) {
    throw new Error(body.error);
  }
  return body;
}

/** The paths of API and token endpoint, the client's credentials, the names of the demo's device. */
export const stack = () => answerOf(fetch("/_local/stack"));

/** The clock, and the device or null. */
export const deviceOf = (who) => answerOf(fetch(`/_local/device?${new URLSearchParams(who)}`));

/** The log lines after a number, and the number of the last one. */
export const logAfter = (number) => answerOf(fetch(`/_local/log?after=${number}`));

/** The address of a QR code; `seed` makes the browser load it again when the seed changes. */
export const qrCodeOf = (who, seed) => `/_local/qr?${new URLSearchParams({ ...who, seed })}`;

/** Moves the clock of the whole stack, forwards or backwards. */
export const advance = (seconds) =>
  answerOf(fetch("/_local/clock", { method: "POST", body: JSON.stringify({ advanceSeconds: seconds }) }));
