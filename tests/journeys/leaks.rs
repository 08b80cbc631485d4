//! What the service writes has no code, seed, token, secret or name in it, in any form, whatever happens and whatever
//! anybody has to say.
//!
//! The promise has two halves. What libraries say below WARN is not written, because there they print requests and
//! answers; what this project's own code says is free of secrets at every level.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use acceptance::{Found, Outcome, Searcher, Secrets, World, WorldOptions};
use anyhow::{Context as _, Result};
use serde_json::Value;

/// The modules of this project, as `tracing` names them.
const OURS: [&str; 6] = [
    "shared",
    "init_auth",
    "validate_otp",
    "local",
    "acceptance",
    "every_journey",
];

/// What a run of every journey wrote.
struct Written {
    output: Vec<String>,
    errors: Vec<String>,
    searcher: Searcher,
}

/// Every journey, in a process that is told to log everything.
fn every_journey(mode: &str) -> Result<Written> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secrets");
    let ran = Command::new(env!("CARGO_BIN_EXE_every-journey"))
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
    let written = every_journey("shipped")?;
    assert_eq!(written.errors, [""; 0], "nothing goes past the log");
    let (mut said, mut reasons, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for line in &written.output {
        let parsed: Value = serde_json::from_str(line)?;
        if ["request", "access"].contains(&field(&parsed, "message")) {
            reasons.insert(field(&parsed, "reason").to_owned());
        } else {
            let level = field(&parsed, "level");
            assert!(["WARN", "ERROR"].contains(&level), "{line}");
            said.insert(field(&parsed, "message").to_owned());
        }
        found.extend(written.searcher.find(line));
    }
    assert_eq!(found, planted(), "nothing but what was planted");
    assert!(said.contains("said at WARN") && said.contains("said at ERROR") && said.contains("a panic"));
    // So that the journeys do not become fewer unnoticed.
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
        assert!(reasons.contains(reason), "no journey ends with {reason:?}: {reasons:?}");
    }
    Ok(())
}

#[test]
fn what_this_project_says_has_no_secret_in_it_at_any_level() -> Outcome {
    let written = every_journey("everything")?;
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
    assert_eq!(ours, planted(), "nothing but what was planted");
    assert!(!of_libraries.is_empty(), "everything was listened to");
    Ok(())
}

/// Everything that holds a secret, as `Debug` shows it, and every error that can come of one, with its causes.
#[tokio::test]
async fn nothing_that_holds_a_secret_shows_it_to_debug_or_in_its_errors() -> Outcome {
    use shared::config::{InitAuthConfig, ValidateOtpConfig};
    use shared::names::{AuthId, DeviceName, UserName};
    use shared::otp::{Offer, OtpCode, OtpParameters, Seed};
    use shared::ports::{AuthStore as _, SeedStore as _};

    let world = World::with(WorldOptions {
        proxies: true,
        taps: true,
        ..WorldOptions::default()
    })
    .await?;
    let auth_id = world.start().await?;
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    let demo = world.stack.demo();
    let (code, seed) = (world.code(0), demo.seed.to_base32());
    let parsed = || OtpCode::parse(&code).context("no code");
    let environment = world.stack.environment();
    let (init_auth, validate_otp) = (
        InitAuthConfig::read(environment)?,
        ValidateOtpConfig::read(environment)?,
    );
    let clients = shared::aws::sdk::Clients::of_local_stores(
        world.stack.stores().dynamodb_url(),
        world.stack.stores().secrets_manager_url(),
    );
    let clock = || std::sync::Arc::clone(world.stack.clock());
    let seeds = shared::aws::seeds::SecretsManagerSeeds::new(
        &clients.secrets_manager,
        clock(),
        std::time::Duration::from_mins(5),
    );
    seeds.get(&demo.device).await?;
    let auth = world
        .stack
        .auths()
        .get(AuthId::parse(&auth_id).context("no authId")?)
        .await?;
    let log = || shared::telemetry::StdoutLog;
    let random = || shared::config::SystemRandom;
    let shown = [
        format!("{:?}", parsed()?),
        format!("{:?}", Offer::Single(parsed()?)),
        format!("{:?}", Offer::Pair(parsed()?, parsed()?)),
        format!("{:?}", demo.seed),
        format!(
            "{:?}",
            demo.seed
                .matches(&Offer::Single(parsed()?), shared::clock::Timestamp::EPOCH)
        ),
        format!("{:?}", demo.device),
        format!("{demo:?}"),
        format!("{auth:?}"),
        format!("{:?}", world.stack.code(&demo.key).await?),
        format!("{init_auth:?} {validate_otp:?}"),
        format!("{seeds:?} {clients:?}"),
        format!(
            "{:?}",
            shared::telemetry::DeviceHasher::new(init_auth.device_hash_key.as_bytes())
        ),
        format!(
            "{:?}",
            init_auth::InitAuth::on_aws(&init_auth, &clients, clock(), random(), log())
        ),
        format!(
            "{:?}",
            validate_otp::ValidateOtp::on_aws(&validate_otp, &clients, clock(), random(), log())
        ),
        format!("{:?} {:?}", world.stack.clients(), world.stack.identity()),
        format!("{:?} {world:?}", world.stack),
        format!(
            "{:?}",
            WorldOptions {
                demo_seed: Some(Seed::from_base32(&seed, OtpParameters::default())?),
                ..WorldOptions::default()
            }
        ),
        format!("{:?}", world.secrets()),
    ];
    let errors: [Option<anyhow::Error>; 7] = [
        OtpCode::parse(&format!("{code}1")).err().map(Into::into),
        Seed::from_base32(&format!("{}1", seed.as_str()), OtpParameters::default())
            .err()
            .map(Into::into),
        Seed::from_bytes(&code.as_bytes()[..6], OtpParameters::default())
            .err()
            .map(Into::into),
        UserName::parse(&format!("{} ", local::DEMO_USER)).err().map(Into::into),
        DeviceName::parse(&format!("{}\n", local::DEMO_DEVICE))
            .err()
            .map(Into::into),
        world
            .stack
            .register_device(
                world.client(),
                local::DEMO_USER,
                local::DEMO_DEVICE,
                OtpParameters::default(),
            )
            .await
            .err(),
        ValidateOtpConfig::read(&BTreeMap::from([(
            shared::config::DEVICE_HASH_KEY.to_owned(),
            seed.chars().take(15).collect::<String>(),
        )]))
        .err()
        .map(Into::into),
    ];
    let searcher = world.secrets().searcher()?;
    assert!(errors.iter().all(Option::is_some));
    for text in shown
        .into_iter()
        .chain(errors.into_iter().flatten().map(|error| format!("{error:?} {error:#}")))
    {
        assert_eq!(searcher.find(&text), [], "{text}");
    }
    world.end().await;
    Ok(())
}
