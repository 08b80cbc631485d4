"""Step 2: one read of the device, one write of the auth."""

import os
import uuid

from botocore.exceptions import ClientError

import service

AUTH_LIFE = int(os.environ.get("AUTH_LIFE_SECONDS", "300"))
FEWEST_PERIODS = 4
# What an auth's snapshot leaves out of a device's item.
NOT_IN_SNAPSHOT = {"pk", "sk", "createdAt", "lastUsedAt", "activateBy", "registeredBy", "pendingSeedRef", "pendingUntil", "pendingSealed"}

dynamo = service.Dynamo(service.SESSION)
dynamo.warm_up(service.DEVICES_TABLE, {"pk": {"S": "-#-"}, "sk": {"S": "-"}})


def create(item):
    """Writes an auth under a free authId; whether it was free, or taken by this call's own repeated write."""
    try:
        dynamo.client.put_item(
            TableName=service.AUTHS_TABLE,
            Item=item,
            ConditionExpression="attribute_not_exists(#pk)",
            ExpressionAttributeNames={"#pk": "pk"},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        if not service.condition_failed(error):
            raise
        taken = error.response.get("Item", {})
        return all(taken.get(member) == item[member] for member in ("owner", "userName", "deviceName", "issuedAt"))
    return True


def answer(request, now, notes):
    client = notes["client"] = request.client()
    members = request.members()
    user, device = service.name(members, "userName", 128), service.name(members, "deviceName", 64)
    request.check_device_type(members, required=True)
    owner = service.owner_of(client)
    notes["device"] = (owner, user, device)

    found = dynamo.get(service.DEVICES_TABLE, {"pk": {"S": f"{owner}#{user}"}, "sk": {"S": device}})
    if found is None:
        raise service.Failure(404, "DEVICE_NOT_FOUND", "no_device", "The user has no device with this name")
    status = found["status"]["S"]
    if status == "DISABLED":
        raise service.Failure(423, "DEVICE_DISABLED", "disabled", "The device is disabled; ask an operator")
    if status != "ACTIVE":
        raise service.Failure(423, "DEVICE_NOT_ACTIVE", "not_active", "The registration of the device is not finished; ask an operator")

    issued_at = now // 1000
    expires_at = issued_at + max(AUTH_LIFE, FEWEST_PERIODS * int(found["period"]["N"]))
    item = {
        "owner": {"S": owner},
        "userName": {"S": user},
        "deviceName": {"S": device},
        "issuedAt": {"N": str(issued_at)},
        "expiresAt": {"N": str(expires_at)},
        "device": {"M": {member: value for member, value in found.items() if member not in NOT_IN_SNAPSHOT}},
    }
    for _ in range(2):
        auth_id = str(uuid.uuid4())
        if create({"pk": {"S": auth_id}, **item}):
            break
    else:
        raise service.Failure(500, "INTERNAL_ERROR", "auth_id_taken_twice", "Internal error; try again")

    body = {"authId": auth_id, "status": "SUCCESS", "message": "Please get the OTP from registered device to authenticate"}
    headers = {"location": f"{request.path.rstrip('/')}/{auth_id}", "auth-expires-at": service.rfc3339(expires_at)}
    if service.single_codes_open(found["state"]["M"], now):
        return 201, body, headers, "started"
    return 201, body, {**headers, "auth-codes-required": "2"}, "started_two_codes_required"


def handler(event, _context):
    return service.serve("init-auth", event, answer, {"dynamodb": dynamo})
