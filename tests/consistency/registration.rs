//! The device API in `template.yaml` compared with the code.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Answer, Outcome, World};
use anyhow::{Context as _, Result, ensure};
use local::template::document as template;
use regex_lite::Regex;
use reqwest::Method;
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::config;
use shared::names::ClientOwners;
use shared::otp::{OtpParameters, Seed, Step};

#[test]
fn urls_that_name_users_are_not_traced() -> Outcome {
    let template = template()?;
    assert_eq!(
        template["Resources"]["Api"]["Properties"]["TracingEnabled"],
        json!({ "Fn::If": ["TracedUrls", true, false] })
    );
    let conditions = &template["Conditions"];
    let without_device_api = json!({ "Fn::Not": [{ "Condition": "HasDeviceApi" }] });
    assert_eq!(
        conditions["TracedUrls"],
        json!({ "Fn::And": [{ "Condition": "Traced" }, without_device_api] })
    );
    assert_eq!(
        conditions["HasDeviceApi"],
        json!({ "Fn::Equals": [{ "Ref": "DeviceApi" }, "true"] })
    );
    Ok(())
}

#[test]
fn the_template_accepts_the_owners_of_clients_that_the_code_accepts() -> Outcome {
    let template = template()?;
    let pattern = &template["Parameters"]["ClientOwners"]["AllowedPattern"];
    let pattern = Regex::new(pattern.as_str().context("no pattern")?)?;
    let odd = ('\0'..='\u{7f}').chain(['\u{a0}', '\u{fc}']);
    let mut raw: Vec<String> = odd
        .flat_map(|c| {
            [
                format!("a{c}b=c"),
                format!("a=b{c}c"),
                format!("a=b{c}c=d"),
                format!("{c}"),
            ]
        })
        .collect();
    raw.extend(
        [
            "",
            "a=",
            "=b",
            "a=b",
            "a=b,",
            ",a=b",
            "a=b,c=d",
            "a=b,,c=d",
            "a=b, c=d",
            " a=b",
            "a=b\n",
            "a==b",
            "a=b=c",
            "settings=bank,sign-in=bank",
        ]
        .map(str::to_owned),
    );
    let mut accepted = 0;
    for raw in raw {
        let parsed = ClientOwners::parse(&raw).is_ok();
        assert_eq!(pattern.is_match(&raw), parsed, "{raw:?}");
        accepted += usize::from(parsed);
    }
    ensure!(accepted > 150, "{accepted}");
    Ok(())
}

#[test]
fn the_template_accepts_the_tags_that_the_code_accepts() -> Outcome {
    const RESERVED: &str = "(?![aA][wW][sS]:)";
    let template = template()?;
    let parameter = &template["Parameters"]["SeedTags"];
    let pattern = parameter["AllowedPattern"].as_str().context("no pattern")?;
    // This library has no look-ahead.
    assert_eq!(pattern.matches(RESERVED).count(), 2);
    let pattern = Regex::new(&pattern.replace(RESERVED, ""))?;
    let accepted = |raw: &str| config::seed_tags(&BTreeMap::from([(config::SEED_TAGS.to_owned(), raw.to_owned())]));
    let odd = ('\0'..='\u{7f}').chain(['\u{a0}', '\u{fc}']);
    let mut raw: Vec<String> = odd
        .flat_map(|c| {
            [
                format!("a{c}b=c"),
                format!("{c}a=b"),
                format!("a{c}=b"),
                format!("a=b{c}c"),
                format!("a={c}b"),
                format!("a=b{c}"),
                format!("{c}"),
            ]
        })
        .collect();
    let numbered = |count| {
        (0..count)
            .map(|number| format!("{number}="))
            .collect::<Vec<_>>()
            .join(",")
    };
    raw.extend(["", "a", "a=", "=b", "a=b,", ",a=b", "a=b,,c=d", "a=b,c=d e"].map(str::to_owned));
    raw.extend([128, 129].map(|length| format!("{}=", "k".repeat(length))));
    raw.extend([256, 257].map(|length| format!("k={}", "v".repeat(length))));
    raw.extend([50, 51].map(numbered));
    let mut valid = 0;
    for raw in raw {
        let parsed = accepted(&raw).is_ok();
        assert_eq!(pattern.is_match(&raw), parsed, "{raw:?}");
        valid += usize::from(parsed);
    }
    ensure!(valid > 300, "{valid}");
    let tags = accepted("team=identity,cost centre=a=b")?;
    assert_eq!(
        tags,
        [("cost centre", "a=b"), ("team", "identity")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    );
    for refused in ["aws:a=b", "AWS:a=b", "c=d,aWs:a=b", "a=b,a=c"] {
        assert!(accepted(refused).is_err(), "{refused}");
    }
    // All variables of a function have 4 KB.
    assert_eq!(parameter["MaxLength"], 1_000);
    Ok(())
}

/// The reasons that a metric filter counts.
fn reasons_of(filter: &Value) -> Result<Vec<String>> {
    let pattern = filter
        .pointer("/Properties/FilterPattern")
        .and_then(Value::as_str)
        .context("no pattern")?;
    let terms = pattern.trim_matches(['{', '}', ' ']).split(" || ");
    terms
        .map(|term| {
            let reason = term
                .strip_prefix("$.reason = \"")
                .and_then(|reason| reason.strip_suffix('"'));
            Ok(reason.with_context(|| term.to_owned())?.to_owned())
        })
        .collect()
}

/// A registration of one user, and its codes.
struct User<'a>(&'a World);

impl User<'_> {
    async fn register(&self) -> Result<Answer> {
        let body = json!({ "deviceType": "TOTP", "deviceName": "phone", "replace": true });
        let request = self.0.request(Method::POST, "/users/alice/mfadevices");
        self.0.send(request.bearer_auth(self.0.token()).json(&body)).await
    }

    async fn activate(&self, registered: &Answer, steps: &[i64]) -> Result<Answer> {
        let secret = registered.member("secret");
        let seed = Seed::from_base32(secret.as_str().context("no seed")?, OtpParameters::default())?;
        let now = Step::at(self.0.stack.clock().now(), seed.parameters().period);
        let codes = steps
            .iter()
            .map(|step| seed.code(Step(now.0.saturating_add_signed(*step))));
        let codes: Vec<_> = codes.map(|code| code.reveal().to_owned()).collect();
        let body = match &codes[..] {
            [one] => json!({ "otp": one }),
            codes => json!({ "otps": codes }),
        };
        let url = format!("{}{}", self.0.stack.origin(), registered.header("location"));
        let request = self.0.at(Method::POST, &url).bearer_auth(self.0.token());
        self.0.send(request.json(&body)).await
    }
}

#[tokio::test]
async fn wrong_and_gated_first_codes_are_counted_as_those_of_a_sign_in() -> Outcome {
    let world = World::new().await?;
    let user = User(&world);
    let first = user.register().await?;
    user.activate(&first, &[40]).await?.expect(422, "OTP_REJECTED")?;
    assert_eq!(user.activate(&first, &[0]).await?.status, 200);
    let second = user.register().await?;
    // Its time is used up.
    user.activate(&second, &[0]).await?.expect(422, "OTP_REPLAYED")?;
    while user.activate(&second, &[40]).await?.code() == "OTP_REJECTED" {}
    let third = user.register().await?;
    user.activate(&third, &[0]).await?.expect(422, "TWO_CODES_REQUIRED")?;
    while user.activate(&third, &[40, 41]).await?.code() == "OTP_REJECTED" {}
    world.advance(Duration::from_secs(1))?;

    let template = template()?;
    let of_activations: Vec<Value> = world
        .stack
        .log_lines()
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    for (own, of_sign_ins) in [("WrongFirstCodes", "WrongCodes"), ("GatedFirstCodes", "GatedAttempts")] {
        let (own, of_sign_ins) = (&template["Resources"][own], &template["Resources"][of_sign_ins]);
        assert_eq!(own["Properties"]["LogGroupName"], json!({ "Ref": "ManageDevicesLog" }));
        assert_eq!(
            own["Properties"]["MetricTransformations"],
            of_sign_ins["Properties"]["MetricTransformations"]
        );
        let reasons = reasons_of(own)?;
        assert_eq!(reasons, reasons_of(of_sign_ins)?);
        for reason in reasons {
            let logged = |line: &Value| line["function"] == "manage-devices" && line["reason"] == reason.as_str();
            assert!(of_activations.iter().any(logged), "{reason}");
        }
    }
    world.end().await;
    Ok(())
}
