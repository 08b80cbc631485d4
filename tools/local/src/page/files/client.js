// The application: it holds the client's credentials and calls the API. A real one does this in its back end.

const SCOPES = "mfa/authenticate mfa/devices";
const SHOWN_HEADERS = ["location", "auth-expires-at", "auth-codes-required", "retry-after", "www-authenticate"];

const shortened = (secret) => `${secret.slice(0, 8)}…`;

export class Client {
  #stack;
  #onExchange;
  #token = null;

  /** `onExchange` gets every request with its answer. */
  constructor(stack, onExchange) {
    this.#stack = stack;
    this.#onExchange = onExchange;
  }

  async getToken() {
    const { clientId, clientSecret, tokenPath } = this.#stack;
    const form = new URLSearchParams({ grant_type: "client_credentials", scope: SCOPES });
    const exchange = await this.#exchange("Get a token", "POST", tokenPath, form.toString(), {
      "Authorization": `Basic ${btoa(`${clientId}:${clientSecret}`)}`,
      "Content-Type": "application/x-www-form-urlencoded",
    });
    this.#token = exchange.json?.access_token ?? null;
    return exchange;
  }

  start({ userName, deviceName }) {
    return this.#call("Start an authentication", "POST", "/deviceAuthentications", { userName, deviceName, deviceType: "TOTP" });
  }

  /** `offer` is `{ otp }` or `{ otps: [earlier, later] }`. */
  validate(authId, offer) {
    return this.#call("Validate a code", "POST", `/deviceAuthentications/${authId}`, offer);
  }

  register({ userName, deviceName }, replace) {
    const body = { deviceType: "TOTP", deviceName, ...(replace && { replace }) };
    return this.#call("Register a device", "POST", devicesOf(userName), body);
  }

  activate(userName, authId, offer) {
    return this.#call("Activate a device", "POST", `${devicesOf(userName)}/${authId}`, offer);
  }

  list({ userName }) {
    return this.#call("List devices", "GET", devicesOf(userName));
  }

  remove({ userName, deviceName }) {
    return this.#call("Remove a device", "DELETE", `${devicesOf(userName)}/TOTP/${encodeURIComponent(deviceName)}`);
  }

  /** Keeps the token until it is refused, as docs/clients.md recommends: each one costs money on AWS. */
  async #call(title, method, path, body) {
    if (this.#token === null) {
      await this.getToken();
    }
    const send = () =>
      this.#exchange(title, method, this.#stack.apiPath + path, body && JSON.stringify(body), {
        "Authorization": `Bearer ${this.#token}`,
        ...(body && { "Content-Type": "application/json" }),
      });
    const exchange = await send();
    if (exchange.status !== 401) {
      return exchange;
    }
    await this.getToken();
    return send();
  }

  async #exchange(title, method, path, body, headers) {
    const response = await fetch(path, { method, headers, body });
    const text = await response.text();
    const exchange = {
      title,
      method,
      path,
      requestHeaders: { ...headers, "Authorization": shortenedAuthorization(headers.Authorization) },
      requestBody: body ?? "",
      status: response.status,
      codesRequired: Number(response.headers.get("auth-codes-required") ?? 1),
      answerHeaders: Object.fromEntries([...response.headers].filter(([name]) => SHOWN_HEADERS.includes(name))),
      json: text === "" ? null : JSON.parse(text),
    };
    this.#onExchange(exchange);
    return exchange;
  }
}

const devicesOf = (userName) => `/users/${encodeURIComponent(userName)}/mfadevices`;

function shortenedAuthorization(value) {
  const [scheme, credentials] = value.split(" ");
  return `${scheme} ${shortened(credentials)}`;
}

/** The body of an answer to show, with secrets shortened. */
export function shownBody(json) {
  const shorten = (name, value) =>
    name === "access_token" || name === "secret" || name === "registrationUri" ? shortened(value) : value;
  return json === null ? "" : JSON.stringify(json, shorten, 2);
}
