//! Whether a function gives right answers. Nothing is measured that does not: it would be another service.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::edge::StoreCall;
use crate::process::Process;
use crate::subjects::{Subject, Task};
use crate::world::{World, init_auth_event, validate_otp_event};

/// What a request costs at the stores, as counted there.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreCost {
    /// How many calls of each operation.
    pub(crate) calls: BTreeMap<String, u64>,
    pub(crate) bytes: usize,
    pub(crate) read_units: f64,
    pub(crate) write_units: f64,
}

impl StoreCost {
    fn of(calls: &[StoreCall]) -> Self {
        let mut cost = Self::default();
        for call in calls {
            *cost.calls.entry(call.operation.clone()).or_default() += 1;
            cost.bytes += call.bytes;
            let units = if call.operation.starts_with("Get") {
                &mut cost.read_units
            } else {
                &mut cost.write_units
            };
            *units += call.capacity_units;
        }
        cost
    }

    pub(crate) fn how_many(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// Goes through the answers of both steps; returns what each costs at the stores once the seed is in memory.
pub(crate) async fn check(world: &World, steps: [&Subject; 2]) -> Result<BTreeMap<Task, StoreCost>> {
    let kind = steps[0].kind.name();
    answers(world, steps)
        .await
        .with_context(|| format!("the answers of {kind} are not right"))
}

async fn answers(world: &World, [step_2, step_3]: [&Subject; 2]) -> Result<BTreeMap<Task, StoreCost>> {
    let (environment, edge) = world.counting();
    let (mut init_auth, _) = Process::start(&step_2.launch, environment, None).await?;
    let (mut validate_otp, _) = Process::start(&step_3.launch, environment, None).await?;
    let [first, second, third] =
        <[_; 3]>::try_from(world.samples(step_3.kind, 3).await?).map_err(|_| anyhow!("three users"))?;

    edge.take();
    let started = init_auth.expect(init_auth_event(&first.user)?, 201).await?.body;
    let mut costs = BTreeMap::from([(Task::InitAuth, StoreCost::of(&edge.take()))]);
    let started = member(&started, "authId");
    let answer = init_auth.expect(init_auth_event("nobody")?, 404).await?.body;
    ensure!(
        member(&answer, "code") == "DEVICE_NOT_FOUND",
        "an unknown user: {answer}"
    );

    // All from one step: the next may begin in between.
    let (right, wrong) = (
        json!({ "otp": world.stores.code(0) }),
        json!({ "otp": wrong_code(world) }),
    );
    let pair = json!({ "otps": [world.stores.code(-1), world.stores.code(0)] });
    let unknown = "00000000-0000-4000-8000-000000000001";
    // A snapshot that is stale costs one refused write more; the first attempt reads the seed.
    let attempts = [
        ("an unknown authId", unknown, &right, 404, "AUTH_NOT_FOUND", 1),
        ("a wrong code", &started, &wrong, 422, "OTP_REJECTED", 3),
        ("a right code", &started, &right, 200, "", 3),
        ("a used authId", &started, &right, 409, "AUTH_ALREADY_USED", 2),
        ("a used code", &first.auth_id, &right, 422, "OTP_REPLAYED", 3),
        ("a pair", &third.auth_id, &pair, 200, "", 2),
        ("a right code at first", &second.auth_id, &right, 200, "", 2),
    ];
    for (what, auth_id, body, status, code, calls) in attempts {
        edge.take();
        let answer = validate_otp.call(validate_otp_event(auth_id, body)?).await?;
        let cost = StoreCost::of(&edge.take());
        let found = (answer.status, member(&answer.body, "code"), cost.how_many());
        ensure!(
            found == (status, code.to_owned(), calls),
            "{what}: {found:?} instead of {status} {code} {calls}: {}",
            answer.body
        );
        costs.insert(Task::ValidateOtp, cost); // the last one's
    }
    for (user, expected) in [
        (&first.user, (1, 2, 1)),
        (&second.user, (1, 0, 0)),
        (&third.user, (1, 0, 0)),
    ] {
        let device = world.stores.device(user).await?;
        let state = (
            device.accepted.len(),
            device.total_failures,
            device.consecutive_failures,
        );
        ensure!(
            state == expected,
            "the state of {user} is {state:?} instead of {expected:?}"
        );
    }
    Ok(costs)
}

fn member(body: &Value, name: &str) -> String {
    body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A code of no step of the window.
fn wrong_code(world: &World) -> String {
    let near = [-1, 0, 1, 2].map(|later| world.stores.code(later));
    let candidates = ["000000", "111111", "222222", "333333", "444444", "555555"];
    let free = candidates
        .into_iter()
        .find(|candidate| !near.iter().any(|code| code == candidate));
    free.unwrap_or("666666").to_owned()
}
