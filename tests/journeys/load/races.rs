//! Thousands of concurrent attempts, on stores that work and on stores that fail: no more verdicts than the policy allows,
//! each counted, and of right codes exactly one success, reported to the request that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use acceptance::{Answer, Chance, Fault, Outcome, Rule, StoreProxy, World, WorldOptions};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use shared::device::Device;
use shared::policy::Policy;

use super::offer::Offer;

/// Requests in flight. Many more would test the time limits instead: a debug build on two cores answers a few hundred a
/// second.
const CONCURRENT: usize = 32;

async fn start_many(world: &World, count: usize) -> Result<Vec<String>> {
    let starts = iter((0..count).map(|_| world.start()));
    starts.buffer_unordered(CONCURRENT / 2).try_collect().await
}

/// Answers by status and code.
type Tally = BTreeMap<(u16, String), u64>;

fn tally(answers: &[Answer]) -> Tally {
    let mut tally = Tally::new();
    for answer in answers {
        *tally.entry((answer.status, answer.code())).or_default() += 1;
    }
    tally
}

fn count(tally: &Tally, status: u16, code: &str) -> u64 {
    tally.get(&(status, code.to_owned())).copied().unwrap_or_default()
}

/// Whether a request ran out of time, as on a busy machine.
fn out_of_time(world: &World) -> bool {
    let given_up = ["\"reason\":\"deadline\"", "\"reason\":\"store_unavailable\""];
    let lines = world.stack.log_lines();
    lines
        .iter()
        .any(|line| given_up.iter().any(|reason| line.contains(reason)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_parallel_guesses_get_the_verdicts_that_the_policy_allows_and_each_is_counted() -> Outcome {
    let world = World::new().await?;
    let wrong = world.wrong_code()?;
    let auth_ids = start_many(&world, 200).await?;
    // The first five wrong codes are free; then the ladder allows one, and one more.
    for (wait, singles_allowed, guesses_each) in [(0, 5, 13), (30, 1, 6), (60, 1, 6)] {
        world.advance(Duration::from_secs(wait))?;
        let before = world.device().await?.total_failures;
        let guesses = (0..guesses_each).flat_map(|round| auth_ids.iter().map(move |auth_id| (round, auth_id)));
        let send = |(round, auth_id): (usize, &String)| {
            let (world, wrong, auth_id) = (&world, wrong.as_str(), auth_id.clone());
            async move {
                let pair = round % 3 == 2;
                let answer = if pair {
                    world.otps(&auth_id, wrong, wrong).await?
                } else {
                    world.otp(&auth_id, wrong).await?
                };
                anyhow::Ok((pair, answer))
            }
        };
        let answers: Vec<_> = iter(guesses.map(send))
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        let (mut verdicts, mut most) = (0, 0);
        for (kind, allowed, gate) in [
            (false, singles_allowed, (422, "TWO_CODES_REQUIRED")),
            (true, u64::from(Policy::PAIR_BURST), (429, "TOO_MANY_ATTEMPTS")),
        ] {
            let of_kind = answers.iter().filter(|(pair, _)| *pair == kind);
            let tallied = tally(&of_kind.map(|(_, answer)| answer.clone()).collect::<Vec<_>>());
            let of_this = count(&tallied, 422, "OTP_REJECTED");
            let others = [gate, (409, "AUTH_ATTEMPTS_EXHAUSTED"), (503, "SERVICE_UNAVAILABLE")];
            let refused: u64 = others.iter().map(|(status, code)| count(&tallied, *status, code)).sum();
            ensure!(of_this <= allowed, "more than {allowed}: {tallied:?}");
            assert_eq!(of_this + refused, tallied.values().sum::<u64>(), "{tallied:?}");
            verdicts += of_this;
            most += allowed;
        }
        let counted = world.device().await?.total_failures - before;
        // So many guesses use up the whole allowance; what was counted without a verdict ran out of time.
        assert_eq!(counted, most);
        ensure!(
            verdicts == counted || verdicts < counted && out_of_time(&world),
            "{verdicts} verdicts, {counted} counted"
        );
    }
    world.advance(Duration::from_secs(1))?;
    let pair = world
        .otps(&world.start().await?, &world.code(-1), &world.code(0))
        .await?;
    pair.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_parallel_right_codes_over_fifty_authentications_have_one_success() -> Outcome {
    let world = World::new().await?;
    for pairs in [false, true] {
        let auth_ids = start_many(&world, 50).await?;
        let before = world.device().await?;
        let (earlier, code) = (world.code(-1), world.code(0));
        // The four of one authId next to each other.
        let attempts = auth_ids.iter().flat_map(|auth_id| [auth_id; 4]).map(async |auth_id| {
            if pairs {
                world.otps(auth_id, &earlier, &code).await
            } else {
                world.otp(auth_id, &code).await
            }
        });
        let answers: Vec<_> = iter(attempts).buffer_unordered(CONCURRENT).try_collect().await?;
        let (tallied, after) = (tally(&answers), world.device().await?);
        let successes = count(&tallied, 200, "");
        assert_eq!(after.accepted.len() - before.accepted.len(), 1, "{tallied:?}");
        ensure!(successes == 1 || successes == 0 && out_of_time(&world), "{tallied:?}");
        let verdicts = count(&tallied, 422, "OTP_REPLAYED") + count(&tallied, 422, "OTP_REJECTED");
        let counted = after.total_failures - before.total_failures;
        ensure!(
            verdicts == counted || verdicts < counted && out_of_time(&world),
            "{counted} counted: {tallied:?}"
        );
        assert_eq!(after.version - before.version, counted + 1, "{tallied:?}");
        world.advance(Duration::from_mins(2))?;
    }
    world.end().await;
    Ok(())
}

impl Offer {
    async fn send(self, world: &World, auth_id: &str) -> Result<Answer> {
        match self {
            Self::Single(step) => world.otp(auth_id, &world.code(step)).await,
            Self::Pair(step) => world.otps(auth_id, &world.code(step), &world.code(step + 1)).await,
            Self::WrongSingle => world.otp(auth_id, &world.wrong_code()?).await,
            Self::WrongPair => world.otps(auth_id, &world.code(0), &world.wrong_code()?).await,
        }
    }
}

/// One attempt and its answer.
struct Attempt {
    auth_id: String,
    offer: Offer,
    answer: Answer,
}

/// The longest that a request may take in the function, whatever fails, in milliseconds. What a client waits for is
/// measured with one request at a time (`stores/faults.rs`): with many, it depends on the machine.
const LIMIT_MILLIS: f64 = 3_000.0;

fn in_time(world: &World) -> Outcome {
    for line in world.stack.log_lines() {
        let taken = serde_json::from_str::<serde_json::Value>(&line)?
            .get("durationMs")
            .cloned();
        let taken = taken.and_then(|taken| taken.as_f64()).context("no duration")?;
        ensure!(taken < LIMIT_MILLIS, "{line}");
    }
    Ok(())
}

/// Concurrent starts that may fail, then concurrent attempts on what was started.
async fn round(world: &World) -> Result<Vec<Attempt>> {
    let starts = (0..6).map(|_| world.try_start());
    let mut auth_ids = Vec::new();
    for start in try_join_all(starts).await? {
        ensure!(matches!(start.status, 201 | 503), "{}", start.text);
        auth_ids.extend(start.member("authId").as_str().map(ToOwned::to_owned));
    }
    let offers = [
        [Offer::Single(0), Offer::Single(-1), Offer::Pair(0), Offer::WrongSingle],
        [Offer::Single(1), Offer::Pair(-1), Offer::Single(0), Offer::WrongPair],
    ];
    let attempts = auth_ids
        .iter()
        .zip(offers.iter().cycle())
        .flat_map(|(auth_id, offers)| {
            offers.iter().map(async move |&offer| {
                let answer = offer.send(world, auth_id).await?;
                anyhow::Ok(Attempt {
                    auth_id: auth_id.clone(),
                    offer,
                    answer,
                })
            })
        });
    try_join_all(attempts).await
}

fn check(before: &Device, after: &Device, attempts: &[Attempt]) -> Outcome {
    let known: BTreeSet<_> = before.accepted.iter().map(|entry| entry.auth_id.to_string()).collect();
    let accepted: Vec<_> = after.accepted.iter().map(|entry| entry.auth_id.to_string()).collect();
    let written: BTreeSet<_> = accepted.iter().filter(|id| !known.contains(*id)).collect();
    ensure!(
        accepted.iter().collect::<BTreeSet<_>>().len() == accepted.len(),
        "an authId succeeded twice"
    );

    let successes: Vec<_> = attempts.iter().filter(|attempt| attempt.answer.status == 200).collect();
    let reported: BTreeSet<_> = successes.iter().map(|attempt| &attempt.auth_id).collect();
    ensure!(reported.len() == successes.len(), "an authId was reported twice");
    ensure!(reported.is_subset(&written), "a success that was not written");
    for auth_id in written.difference(&reported) {
        let lost = |attempt: &&Attempt| attempt.auth_id == ***auth_id && attempt.answer.status == 503;
        ensure!(
            attempts.iter().any(|attempt| lost(&attempt)),
            "a success that was not reported"
        );
    }

    let mut steps = BTreeSet::new();
    for success in successes {
        let (first, last) = success.offer.steps().context("a wrong code was accepted")?;
        ensure!(
            (first..=last).all(|step| steps.insert(step)),
            "a step was accepted twice"
        );
    }

    let codes = ["OTP_REJECTED", "OTP_REPLAYED"];
    let wrong = attempts
        .iter()
        .filter(|attempt| codes.contains(&attempt.answer.code().as_str()))
        .count();
    let counted = after.total_failures - before.total_failures;
    ensure!(
        u64::try_from(wrong)? <= counted,
        "{wrong} wrong verdicts, {counted} counted"
    );
    let writes = after.version - before.version;
    ensure!(
        writes == counted + u64::try_from(written.len())?,
        "a write was lost or made twice"
    );
    for Attempt { answer, .. } in attempts {
        ensure!(matches!(answer.status, 200 | 409 | 422 | 429 | 503), "{}", answer.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_at_once_on_stores_that_fail_are_each_decided_once_and_every_success_is_told() -> Outcome {
    const SEED: u64 = 20_261_125;
    let settings = [
        ("GUESS_POLICY", "custom"),
        ("GUESS_BURST", "50"),
        ("GUESS_REFILL_HOURS", "3"),
        ("GUESS_PAIR_GAP_SECONDS", "1"),
        // With more, the odds of such a policy are too high for registration.
        ("DEVICES_PER_USER", "1"),
    ];
    let world = World::with(WorldOptions {
        proxies: true,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..WorldOptions::default()
    })
    .await?;
    let proxies: Vec<&StoreProxy> = world.proxies().collect();
    let faults: Vec<Fault> = Fault::BEFORE.into_iter().chain(Fault::AFTER).collect();
    let calls = [
        "GetItem Devices",
        "PutItem Auths",
        "GetItem Auths",
        "GetSecretValue",
        "UpdateItem Devices",
    ];
    // Faults of one call at a time, the device's write most often, then of all calls.
    let rounds = calls
        .chunks(1)
        .chain([&calls[4..], &calls[4..], &calls[..], &calls[..]]);
    let mut successes = 0;
    for (number, faulty) in (0..).zip(rounds) {
        let seed = SEED + number;
        let percent = if faulty.len() > 1 { 20 } else { 50 };
        world.stack.cold_start()?;
        world.advance(Duration::from_secs(30))?;
        for (call, proxy) in faulty
            .iter()
            .flat_map(|call| proxies.iter().map(move |proxy| (call, proxy)))
        {
            proxy.set(call, Rule::Chance(Chance::new(seed, percent, &faults)));
        }
        let before = world.device().await?;
        let attempts = round(&world).await?;
        let after = world.device().await?;
        check(&before, &after, &attempts).with_context(|| format!("{percent} % faults at {faulty:?}, seed {seed}"))?;
        successes += attempts.iter().filter(|attempt| attempt.answer.status == 200).count();
        for proxy in &proxies {
            proxy.clear();
        }
    }
    let faults: usize = proxies.iter().map(|proxy| proxy.faults()).sum();
    in_time(&world)?;
    eprintln!("seed {SEED}: {faults} faults, {successes} successes");
    ensure!(faults > 50 && successes > 0, "{faults} faults, {successes} successes");
    world.advance(Duration::from_mins(2))?;
    let pair = world
        .otps(&world.start().await?, &world.code(-1), &world.code(0))
        .await?;
    pair.success(200)?;
    world.end().await;
    Ok(())
}
