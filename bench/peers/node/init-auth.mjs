// Step 2: one read of the device, one write of the auth.

import { randomUUID } from "node:crypto";

import { PutItemCommand } from "@aws-sdk/client-dynamodb";

import * as service from "./service.mjs";
import { Failure, dynamo } from "./service.mjs";

const AUTH_LIFE = Number(process.env.AUTH_LIFE_SECONDS ?? "300");
const FEWEST_PERIODS = 4;

await service.warmUp(service.DEVICES_TABLE, { pk: { S: "-#-" }, sk: { S: "-" } });

/** Writes an auth under a free authId; whether it was free, or taken by this call's own repeated write. */
async function create(item) {
  try {
    await dynamo.send(
      new PutItemCommand({
        TableName: service.AUTHS_TABLE,
        Item: item,
        ConditionExpression: "attribute_not_exists(#pk)",
        ExpressionAttributeNames: { "#pk": "pk" },
        ReturnValuesOnConditionCheckFailure: "ALL_OLD",
      }),
    );
    return true;
  } catch (error) {
    if (error.name !== "ConditionalCheckFailedException") throw error;
    const same = (member) => JSON.stringify(error.Item?.[member]) === JSON.stringify(item[member]);
    return ["owner", "userName", "deviceName", "issuedAt"].every(same);
  }
}

async function answer(request, now, notes) {
  const client = (notes.client = request.client());
  const members = request.members();
  const [user, device] = [service.name(members, "userName", 128), service.name(members, "deviceName", 64)];
  request.checkDeviceType(members, true);
  const owner = service.ownerOf(client);
  notes.device = [owner, user, device];

  const found = await service.get(service.DEVICES_TABLE, { pk: { S: `${owner}#${user}` }, sk: { S: device } });
  if (!found) throw new Failure(404, "DEVICE_NOT_FOUND", "no_device", "The user has no device with this name");
  if (found.status.S === "DISABLED") throw new Failure(423, "DEVICE_DISABLED", "disabled", "The device is disabled; ask an operator");
  if (found.status.S !== "ACTIVE") {
    throw new Failure(423, "DEVICE_NOT_ACTIVE", "not_active", "The registration of the device is not finished; ask an operator");
  }

  const issuedAt = Math.floor(now / 1000);
  const expiresAt = issuedAt + Math.max(AUTH_LIFE, FEWEST_PERIODS * Number(found.period.N));
  // What an auth's snapshot leaves out of a device's item.
  const { pk, sk, createdAt, lastUsedAt, activateBy, registeredBy, pendingSeedRef, pendingUntil, pendingSealed, ...snapshot } = found;
  const item = {
    owner: { S: owner },
    userName: { S: user },
    deviceName: { S: device },
    issuedAt: { N: String(issuedAt) },
    expiresAt: { N: String(expiresAt) },
    device: { M: snapshot },
  };
  let authId = randomUUID();
  if (!(await create({ pk: { S: authId }, ...item }))) {
    authId = randomUUID();
    if (!(await create({ pk: { S: authId }, ...item }))) throw new Failure(500, "INTERNAL_ERROR", "auth_id_taken_twice", "Internal error; try again");
  }

  const open = service.singleCodesOpen(found.state.M, now);
  return {
    status: 201,
    body: { authId, status: "SUCCESS", message: "Please get the OTP from registered device to authenticate" },
    headers: {
      location: `${request.path.replace(/\/+$/, "")}/${authId}`,
      "auth-expires-at": service.rfc3339(expiresAt),
      ...(open ? {} : { "auth-codes-required": "2" }),
    },
    reason: open ? "started" : "started_two_codes_required",
  };
}

export const handler = (event) => service.serve("init-auth", event, answer, { dynamodb: dynamo });
