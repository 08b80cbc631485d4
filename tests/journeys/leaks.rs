//! Nothing that the service writes has a code, seed, token, secret or name in it, in any form, whatever happens.
//!
//! The promise has two halves. What libraries log below WARN is not written, because there they print requests and
//! answers; what this project's own code logs is free of secrets at every level.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use acceptance::{Found, Outcome, Searcher, Secrets, World, WorldOptions};
use anyhow::{Context as _, Result};
use serde_json::Value;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::Timestamp;
use shared::config::{self, InitAuthConfig, ValidateOtpConfig};
use shared::names::{AuthId, DeviceName, UserName};
use shared::otp::{Offer, OtpCode, OtpParameters, Seed};
use shared::ports::{AuthStore as _, SeedStore as _};
use shared::random::SystemRandom;
use shared::telemetry::{DeviceHasher, StdoutLog};

/// The modules of this project, as `tracing` names them.
const OURS: [&str; 6] = [
    "shared",
    "init_auth",
    "validate_otp",
    "local",
    "acceptance",
    "every_request",
];

/// What a run of the program wrote.
struct Written {
    output: Vec<String>,
    errors: Vec<String>,
    searcher: Searcher,
}

/// Every kind of request, in a process whose environment asks for every log level.
fn every_request(mode: &str) -> Result<Written> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secrets");
    let ran = Command::new(env!("CARGO_BIN_EXE_every-request"))
        .arg(mode)
        .arg(&file)
        .env("RUST_LOG", "trace")
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .stdin(Stdio::null())
        .output()?;
    let lines = |bytes: Vec<u8>| -> Result<Vec<String>> {
        Ok(String::from_utf8(bytes)?.lines().map(ToOwned::to_owned).collect())
    };
    let (output, errors) = (lines(ran.stdout)?, lines(ran.stderr)?);
    anyhow::ensure!(ran.status.success(), "{:?}", errors.last());
    let secrets = Secrets::from_lines(&std::fs::read_to_string(&file)?)?;
    Ok(Written {
        output,
        errors,
        searcher: secrets.searcher()?,
    })
}

fn field<'a>(line: &'a Value, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn planted() -> Vec<Found> {
    vec![Found {
        what: "planted".to_owned(),
        form: "hexadecimal",
    }]
}

#[test]
fn what_the_functions_write_has_no_secret_in_it_and_nothing_of_libraries_below_warnings() -> Outcome {
    let written = every_request("shipped")?;
    assert_eq!(written.errors, [""; 0], "nothing is written past the log");
    let (mut messages, mut reasons, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for line in &written.output {
        let parsed: Value = serde_json::from_str(line)?;
        if ["request", "access"].contains(&field(&parsed, "message")) {
            reasons.insert(field(&parsed, "reason").to_owned());
        } else {
            let level = field(&parsed, "level");
            assert!(["WARN", "ERROR"].contains(&level), "{line}");
            messages.insert(field(&parsed, "message").to_owned());
        }
        found.extend(written.searcher.find(line));
    }
    assert_eq!(found, planted(), "only what was planted");
    assert!(
        messages.contains("logged at WARN") && messages.contains("logged at ERROR") && messages.contains("a panic")
    );
    // So that no kind of request is lost unnoticed.
    for reason in [
        "", // of the gateway
        "already_used",
        "body_length",
        "content_type",
        "device_gone",
        "disabled",
        "exhausted",
        "expired",
        "foreign",
        "invalid_request",
        "malformed",
        "no_client",
        "no_device",
        "no_scope",
        "not_active",
        "pairs_gated",
        "panic",
        "replayed",
        "seed_unavailable",
        "single_code",
        "single_codes_gated",
        "started",
        "started_two_codes_required",
        "store_corrupt",
        "store_unavailable",
        "superseded",
        "two_codes",
        "unknown",
        "wrong_code",
        "wrong_pair",
    ] {
        assert!(reasons.contains(reason), "no request ends with {reason:?}: {reasons:?}");
    }
    Ok(())
}

#[test]
fn what_this_project_says_has_no_secret_in_it_at_any_level() -> Outcome {
    let written = every_request("everything")?;
    let mut found = Vec::new();
    for line in &written.output {
        found.extend(written.searcher.find(line));
    }
    assert_eq!(found, [], "in the lines of requests");
    let (mut ours, mut of_libraries) = (Vec::new(), BTreeMap::<_, BTreeSet<Found>>::new());
    for line in &written.errors {
        let found = written.searcher.find(line);
        if found.is_empty() {
            continue;
        }
        let parsed: Value = serde_json::from_str(line)?;
        let target = field(&parsed, "target").to_owned();
        let module = target.split("::").next().unwrap_or_default();
        if OURS.contains(&module) {
            ours.extend(found);
        } else {
            of_libraries.entry(target).or_default().extend(found);
        }
    }
    for (target, found) in &of_libraries {
        eprintln!("{target}: {found:?}");
    }
    assert_eq!(ours, planted(), "only what was planted");
    assert!(!of_libraries.is_empty(), "libraries were not listened to");
    Ok(())
}

/// Checks that none of these texts has a secret of a world in it.
fn have_no_secret(world: &World, texts: impl IntoIterator<Item = String>) -> Outcome {
    let searcher = world.secrets().searcher()?;
    for text in texts {
        assert_eq!(searcher.find(&text), [], "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_that_holds_a_secret_shows_it_to_debug() -> Outcome {
    let world = World::with_proxies().await?;
    let auth_id = world.start().await?;
    let (code, seed) = (world.code(0), world.stack.demo().seed.to_base32());
    world.otp(&auth_id, &code).await?.success(200)?;
    let (demo, parsed) = (world.stack.demo(), OtpCode::parse(&code)?);
    let offers = [
        Offer::Single(parsed.clone()),
        Offer::Pair(parsed.clone(), parsed.clone()),
    ];
    let matches = offers
        .each_ref()
        .map(|offer| demo.seed.matches(offer, Timestamp::EPOCH));
    let auth = world
        .stack
        .auths()
        .get(AuthId::parse(&auth_id).context("no authId")?)
        .await?;
    let options = WorldOptions {
        demo_seed: Some(Seed::from_base32(&seed, OtpParameters::default())?),
        ..WorldOptions::default()
    };
    let values = [
        format!("{parsed:?} {offers:?} {matches:?}"),
        format!("{:?} {demo:?} {auth:?}", demo.seed),
        format!("{:?} {:?}", demo.device, demo.key),
    ];

    let environment = world.stack.environment();
    let (step_2, step_3) = (
        InitAuthConfig::read(environment)?,
        ValidateOtpConfig::read(environment)?,
    );
    let clients = world.store_clients();
    let clock = || Arc::clone(world.stack.clock());
    let ring = Some(step_3.key_ring.clone());
    let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, clock(), Duration::from_mins(5), ring);
    seeds.warm_up().await;
    seeds.get(&demo.key, &demo.device).await?;
    let init_auth = init_auth::InitAuth::on_aws(&step_2, &clients, clock(), SystemRandom, StdoutLog);
    let validate_otp = validate_otp::ValidateOtp::on_aws(&step_3, &clients, clock(), SystemRandom, StdoutLog);
    let hasher = DeviceHasher::new(step_2.service.device_hash_key.as_bytes());
    let adapters = [
        format!("{step_2:?} {step_3:?} {hasher:?}"),
        format!("{seeds:?} {clients:?}"),
        format!("{init_auth:?} {validate_otp:?}"),
    ];
    let tools = [
        format!("{:?} {:?}", world.stack.clients(), world.stack.identity()),
        format!("{:?} {:?}", world.stack, world.stack.code(&demo.key).await?),
        format!("{world:?} {options:?} {:?}", world.secrets()),
    ];
    have_no_secret(&world, values.into_iter().chain(adapters).chain(tools))?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn no_error_quotes_its_input() -> Outcome {
    let world = World::new().await?;
    let (code, seed) = (world.code(0), world.stack.demo().seed.to_base32());
    let (user, device) = (local::DEMO_USER, local::DEMO_DEVICE);
    let too_short: String = seed.chars().take(15).collect();
    let settings = BTreeMap::from([
        (config::AUTHS_TABLE.to_owned(), "Auths".to_owned()),
        (config::DEVICES_TABLE.to_owned(), "Devices".to_owned()),
        (config::KEY_RING.to_owned(), "mfa-key-ring".to_owned()),
        (config::DEVICE_HASH_KEY.to_owned(), too_short.clone()),
    ]);
    let parameters = OtpParameters::default();
    let registered_again = world.stack.register_device(world.client(), user, device, parameters);
    let errors: [Option<anyhow::Error>; 7] = [
        OtpCode::parse(&format!("{code}1")).err().map(Into::into),
        Seed::from_base32(&format!("{}1", seed.as_str()), parameters)
            .err()
            .map(Into::into),
        Seed::from_bytes(code.as_bytes(), parameters).err().map(Into::into),
        UserName::parse(&format!("{user} ")).err().map(Into::into),
        DeviceName::parse(&format!("{device}\n")).err().map(Into::into),
        registered_again.await.err(),
        ValidateOtpConfig::read(&settings).err().map(Into::into),
    ];
    assert!(errors.iter().all(Option::is_some));
    let texts = errors.into_iter().flatten().map(|error| format!("{error:?} {error:#}"));
    for text in texts {
        assert!(!text.contains(&too_short), "{text}");
        have_no_secret(&world, [text])?;
    }
    world.end().await;
    Ok(())
}
