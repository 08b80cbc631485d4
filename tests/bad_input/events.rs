//! Events that API Gateway never sends: parts of a valid one replaced, removed and wrapped, other services' events, and
//! bytes that are not JSON. None fails an invocation.

use anyhow::{Result, ensure};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use shared::testing::events::Event;

use crate::runner::{MARKER, check_property, runtime};
use crate::service::{CLIENT, DEVICES, Operation, Service, State, USERS, auth_id, code, in_path};

/// What comes from the gateway or the authorizer, and is repeated in an answer or in the log.
const REPEATED: [&str; 3] = [
    "/requestContext/extendedRequestId",
    "/requestContext/path",
    "/requestContext/authorizer/claims/client_id",
];

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Wrap,
    WriteAsText,
}

#[derive(Debug, Clone)]
enum Payload {
    /// An event with changes, each at a place.
    Changed(Vec<(usize, Change)>),
    /// Any JSON.
    Json(Value),
    /// An event with some bytes overwritten or cut off.
    Bytes(usize, Vec<u8>, bool),
}

fn right(operation: Operation) -> Event {
    match operation {
        Operation::Start => Event::init_auth(CLIENT).user(USERS[0]).device(DEVICES[0]),
        Operation::Code => Event::validate_otp(CLIENT, &auth_id()).otp(code(0)),
        Operation::Register => Event::register_device(CLIENT, &in_path(USERS[0])),
        Operation::Activate => Event::activate_device(CLIENT, &in_path(USERS[0]), &auth_id().to_string()).otp(code(0)),
        Operation::List => Event::list_devices(CLIENT, &in_path(USERS[0])),
        Operation::Remove => Event::remove_device(CLIENT, &in_path(USERS[0]), &in_path(DEVICES[0])),
    }
}

fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        vec(any::<char>(), 0..8).prop_map(|chars| Value::from(format!(
            "{}{}",
            MARKER.as_str(),
            String::from_iter(chars)
        ))),
        select(vec!["", "/", "POST", "e30=", "{}", "application/json", "true", "\r\n"]).prop_map(Value::from),
    ];
    let name = prop_oneof![
        select(vec![
            "requestContext",
            "path",
            "body",
            "headers",
            "authorizer",
            "claims",
            "http",
            "Content-Type"
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z]{0,6}",
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name.clone(), inner), 0..4).prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
    .boxed()
}

fn payloads() -> BoxedStrategy<(Operation, Payload)> {
    let change = prop_oneof![
        3 => any_json().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => Just(Change::Wrap),
        1 => Just(Change::WriteAsText),
    ];
    let payload = prop_oneof![
        8 => vec((any::<usize>(), change), 0..4).prop_map(Payload::Changed),
        1 => any_json().prop_map(Payload::Json),
        1 => (any::<usize>(), vec(any::<u8>(), 0..4), any::<bool>())
            .prop_map(|(place, bytes, cut)| Payload::Bytes(place, bytes, cut)),
    ];
    (select(Operation::ALL.to_vec()), payload).boxed()
}

/// The places in a document, the document itself first.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                places(
                    value,
                    &format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                places(value, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn change(event: &mut Value, place: usize, change: &Change) {
    let mut found = Vec::new();
    places(event, "", &mut found);
    let pointer = found.swap_remove(place % found.len());
    if let (Change::Remove, Some((parent, name))) = (change, pointer.rsplit_once('/')) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if let Some(Value::Object(members)) = event.pointer_mut(parent) {
            members.remove(&name);
        }
        return;
    }
    if let Some(value) = event.pointer_mut(&pointer) {
        *value = match change {
            Change::Replace(other) => other.clone(),
            Change::Wrap => json!([value.take()]),
            Change::WriteAsText => Value::from(value.to_string()),
            Change::Remove => Value::Null,
        };
    }
}

/// The bytes of a payload, and whether the parts that are repeated contain the marker.
fn written(operation: Operation, payload: &Payload) -> Result<(Vec<u8>, bool)> {
    let event = right(operation).json();
    Ok(match payload {
        Payload::Json(value) => (value.to_string().into_bytes(), false),
        Payload::Bytes(place, over, cut) => {
            let mut bytes = event.into_bytes();
            let place = place % bytes.len();
            let end = bytes.len().min(place + over.len());
            bytes.splice(place..end, over.iter().copied());
            if *cut {
                bytes.truncate(place);
            }
            (bytes, false)
        }
        Payload::Changed(changes) => {
            let mut event: Value = serde_json::from_str(&event)?;
            for (place, what) in changes {
                change(&mut event, *place, what);
            }
            let marked = |pointer: &&str| {
                event
                    .pointer(pointer)
                    .is_some_and(|value| value.to_string().contains(MARKER.as_str()))
            };
            let repeated = REPEATED.iter().any(marked);
            (event.to_string().into_bytes(), repeated)
        }
    })
}

#[test]
fn no_event_fails_an_invocation() -> Result<()> {
    check_property("generated events", &payloads(), |runtime, (operation, payload)| {
        let service = Service::new(State::Open)?;
        let before = service.stored();
        let (bytes, repeated) = written(operation, &payload)?;
        let answer = runtime.block_on(service.invoke(operation, &bytes))?;
        answer.is_sound(operation, &service, &before)?;
        if !repeated {
            answer.echoes_nothing(operation, &service.log.printed())?;
        }
        Ok(())
    })?;
    Ok(())
}

#[test]
fn an_event_of_another_kind_is_a_400_that_says_so() -> Result<()> {
    let http_api = json!({
        "version": "2.0", "routeKey": "POST /deviceAuthentications", "rawPath": "/v1/deviceAuthentications",
        "headers": { "content-type": "application/json" },
        "requestContext": {
            "authorizer": { "jwt": { "claims": { "client_id": CLIENT, "scope": "mfa/authenticate" } } },
            "http": { "method": "POST", "path": "/v1/deviceAuthentications" }, "stage": "v1",
        },
        "body": "{}", "isBase64Encoded": false,
    });
    let load_balancer = json!({
        "requestContext": { "elb": { "targetGroupArn": "arn" } }, "httpMethod": "POST", "path": "/", "body": "",
        "headers": { "host": "x" }, "isBase64Encoded": false,
    });
    let queue = json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] });
    // Serde would read a struct from an array.
    let positions = json!([{ "path": "/v1/deviceAuthentications" }, {}, {}, {}, "{}", false]);
    let others: [Vec<u8>; 15] = [
        positions.to_string().into(),
        http_api.to_string().into(),
        load_balancer.to_string().into(),
        queue.to_string().into(),
        json!({ "source": "serverless-plugin-warmup" }).to_string().into(),
        b"{}".into(),
        b"null".into(),
        b"[]".into(),
        b"\"ping\"".into(),
        b"7".into(),
        b"".into(),
        b"{".into(),
        b"ping".into(),
        b"\xff\xfe".into(),
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat(),
    ];
    let runtime = runtime()?;
    for payload in others {
        for operation in Operation::ALL {
            let service = Service::new(State::Open)?;
            let before = service.stored();
            let answer = runtime.block_on(service.invoke(operation, &payload))?;
            answer.is_sound(operation, &service, &before)?;
            ensure!(
                answer.status == 400 && answer.message().contains("REST API"),
                "{answer:?}"
            );
            ensure!(service.calls() == 0, "a store was called");
        }
    }
    Ok(())
}
