//! Whether a function gives right answers. Nothing is measured that does not: it would be another service.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
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
    let [first, second, third] = <[_; 3]>::try_from(world.samples(3).await?).map_err(|_| anyhow::anyhow!("three"))?;
    let auth_id = |body: &Value| {
        body.get("authId")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no authId")
    };
    let code_of = |body: &Value| body.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();

    // Several answers depend on the step, which may end in between: all are to come from one.
    let (right, wrong) = (world.code(0), wrong_code(world));
    edge.take();
    let started = init_auth.expect(init_auth_event(&first.user)?, 201).await?.body;
    let mut costs = BTreeMap::from([(Task::InitAuth, StoreCost::of(&edge.take()))]);
    let members = started.as_object().map(|members| members.len());
    ensure!(
        members == Some(3) && started["status"] == "SUCCESS",
        "step 2: {started}"
    );
    let started = auth_id(&started)?;
    let answer = init_auth.expect(init_auth_event("nobody")?, 404).await?.body;
    ensure!(code_of(&answer) == "DEVICE_NOT_FOUND", "an unknown user: {answer}");

    let unknown = "00000000-0000-4000-8000-000000000001";
    let steps: [(&str, &str, Value, u64, &str, u64); 7] = [
        (
            "an unknown authId",
            unknown,
            json!({ "otp": right }),
            404,
            "AUTH_NOT_FOUND",
            1,
        ),
        (
            "a wrong code",
            &started,
            json!({ "otp": wrong }),
            422,
            "OTP_REJECTED",
            3,
        ), // with the seed
        ("a right code", &started, json!({ "otp": right }), 200, "", 3), // its first write is refused: the snapshot is stale
        (
            "a used authId",
            &started,
            json!({ "otp": right }),
            409,
            "AUTH_ALREADY_USED",
            2,
        ),
        (
            "a used code",
            &first.auth_id,
            json!({ "otp": right }),
            422,
            "OTP_REPLAYED",
            3,
        ),
        (
            "a right code of another user",
            &second.auth_id,
            json!({ "otp": right }),
            200,
            "",
            2,
        ),
        (
            "a pair",
            &third.auth_id,
            json!({ "otps": [world.code(-1), world.code(0)] }),
            200,
            "",
            2,
        ),
    ];
    for (what, auth_id, body, status, code, calls) in steps {
        edge.take();
        let answer = validate_otp.call(validate_otp_event(auth_id, &body)?).await?;
        let cost = StoreCost::of(&edge.take());
        let found = (answer.status, code_of(&answer.body), cost.how_many());
        ensure!(
            found == (status, code.to_owned(), calls),
            "{what}: {found:?} instead of {status} {code} {calls}: {}",
            answer.body
        );
        if what == "a right code of another user" {
            costs.insert(Task::ValidateOtp, cost);
        }
    }
    let device = world.device(&first.user).await?;
    let counted = (
        device.accepted.len(),
        device.total_failures,
        device.consecutive_failures,
    );
    ensure!(
        counted == (1, 2, 1),
        "the state after a wrong, a right and a used code: {counted:?}"
    );
    let device = world.device(&third.user).await?;
    ensure!(
        device.accepted.len() == 1 && device.version == 2,
        "the state after a pair"
    );
    Ok(costs)
}

/// A code of no step of the window.
fn wrong_code(world: &World) -> String {
    let near = [-1, 0, 1, 2].map(|later| world.code(later));
    let candidates = ["000000", "111111", "222222", "333333", "444444", "555555"];
    let free = candidates
        .into_iter()
        .find(|candidate| !near.iter().any(|code| code == candidate));
    free.unwrap_or("666666").to_owned()
}
