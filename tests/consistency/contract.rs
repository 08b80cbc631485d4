//! `openapi.yaml` compared with the template, the code and `docs/api.md`. The journeys compare it with answers.

use std::collections::{BTreeMap, BTreeSet};

use acceptance::{Answer, Contract, Operation, Outcome};
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use shared::device::Status;
use shared::http::body;
use shared::http::error::Code;
use shared::http::path::can_stand_in_path;
use shared::names::{DeviceName, UserName};
use shared::otp::{Algorithm, Digits, OtpCode, OtpParameters, Period};
use shared::otpauth::Issuer;
use shared::policy::Policy;

const API: &str = include_str!("../../docs/api.md");

/// The sections of `docs/api.md` that describe operations.
const SECTIONS: [(&str, &str); 6] = [
    ("startAuthentication", "Step 2: start an authentication"),
    ("validateCode", "Step 3: validate a code"),
    ("registerDevice", "Register a device"),
    ("activateDevice", "Activate a device"),
    ("listDevices", "List devices"),
    ("removeDevice", "Remove a device"),
];

/// A part of `docs/api.md`, up to the next heading.
struct Section {
    level: usize,
    heading: &'static str,
    text: &'static str,
}

impl Section {
    fn all() -> Vec<Self> {
        let mut found = Vec::new();
        for part in API.split("\n#") {
            let (heading, text) = part.split_once('\n').unwrap_or((part, ""));
            let level = 1 + heading.bytes().take_while(|byte| *byte == b'#').count();
            let heading = heading.trim_start_matches('#').trim();
            found.push(Self { level, heading, text });
        }
        found
    }

    fn of(heading: &str) -> Result<Self> {
        let found = Self::all().into_iter().find(|section| section.heading == heading);
        found.with_context(|| format!("docs/api.md has no section {heading}"))
    }

    /// The JSON in it.
    fn bodies(&self) -> Result<Vec<Value>> {
        let blocks = self.text.split("```json\n").skip(1);
        blocks
            .map(|block| {
                let block = block.split("```").next().unwrap_or_default();
                serde_json::from_str(block).with_context(|| block.to_owned())
            })
            .collect()
    }

    /// The codes of the paragraph that begins with `Errors:`.
    fn codes(&self) -> Result<BTreeSet<String>> {
        let errors = self
            .text
            .split("\n\n")
            .find_map(|paragraph| paragraph.trim().strip_prefix("Errors:"));
        let errors = errors.with_context(|| format!("{} has no errors", self.heading))?;
        let mut codes = BTreeSet::new();
        for anchor in errors.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            match anchor {
                "the-request" => codes.extend(codes_below("The request")),
                "every-request" => codes.extend(codes_below("Every request")),
                code => codes.extend([code.to_uppercase()]),
            }
        }
        Ok(codes)
    }
}

/// The codes whose sections are below a heading.
fn codes_below(heading: &str) -> Vec<String> {
    let sections = Section::all()
        .into_iter()
        .skip_while(|section| section.heading != heading);
    let below = sections.skip(1).take_while(|section| section.level > 3);
    below.map(|section| section.heading.to_owned()).collect()
}

/// The definition of an operation.
fn definition<'a>(contract: &'a Contract, operation: &Operation) -> Result<&'a Value> {
    let path = operation.path.replace('~', "~0").replace('/', "~1");
    let method = operation.method.as_str().to_lowercase();
    let found = contract.document.pointer(&format!("/paths/{path}/{method}"));
    found.with_context(|| operation.id.clone())
}

/// The values of the examples of a request or an answer, and its schema; nothing if it has no body.
fn content<'a>(contract: &'a Contract, described: &'a Value) -> Result<(Vec<&'a Value>, Option<&'a Value>)> {
    let Some(content) = contract.resolve(described)?.pointer("/content/application~1json") else {
        return Ok((Vec::new(), None));
    };
    let examples = content
        .get("examples")
        .and_then(Value::as_object)
        .context("no examples")?;
    let values = examples.values().map(|example| {
        let value = contract.resolve(example)?.get("value");
        value.context("an example without a value")
    });
    Ok((values.collect::<Result<_>>()?, content.get("schema")))
}

/// Bodies of an operation with their schemas: of its request, and of its answers by status.
type Bodies<'a> = (Vec<&'a Value>, Option<&'a Value>);

fn request<'a>(contract: &'a Contract, operation: &Operation) -> Result<Bodies<'a>> {
    match definition(contract, operation)?.get("requestBody") {
        Some(body) => content(contract, body),
        None => Ok((Vec::new(), None)),
    }
}

fn answers<'a>(contract: &'a Contract, operation: &Operation) -> Result<BTreeMap<u16, Bodies<'a>>> {
    let answers = definition(contract, operation)?
        .get("responses")
        .and_then(Value::as_object);
    let answers = answers.context("no answers")?.iter();
    answers
        .map(|(status, answer)| Ok((status.parse()?, content(contract, answer)?)))
        .collect()
}

fn schema<'a>(contract: &'a Contract, pointer: &str) -> Result<&'a Value> {
    let found = contract.document.pointer(&format!("/components/schemas/{pointer}"));
    found.with_context(|| format!("no schema {pointer}"))
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn the_operations_are_the_routes_of_the_template_with_their_scopes() -> Outcome {
    let (contract, template) = (Contract::get()?, local::template::document()?);
    let mut routes = BTreeSet::new();
    for resource in template["Resources"].as_object().context("no resources")?.values() {
        let events = resource["Properties"]["Events"].as_object();
        for event in events.into_iter().flatten().map(|(_, event)| &event["Properties"]) {
            let scopes = texts(&event["Auth"]["AuthorizationScopes"]);
            routes.insert((event["Method"].as_str(), event["Path"].as_str(), scopes));
        }
    }
    let mut described = BTreeSet::new();
    for operation in &contract.operations {
        let security = &definition(contract, operation)?["security"];
        let scopes = texts(&security[0]["clientCredentials"]);
        assert_eq!(scopes, texts(&security[1]["bearer"]), "{}", operation.id);
        described.insert((Some(operation.method.as_str()), Some(operation.path.as_str()), scopes));
    }
    assert_eq!(described, routes);

    let server = &template["Resources"]["ResourceServer"]["Properties"];
    let scopes = server["Scopes"].as_array().context("no scopes")?.iter();
    let scopes: BTreeSet<_> = scopes
        .map(|scope| {
            Some(format!(
                "{}/{}",
                server["Identifier"].as_str()?,
                scope["ScopeName"].as_str()?
            ))
        })
        .collect();
    let flow = &contract.document["components"]["securitySchemes"]["clientCredentials"]["flows"]["clientCredentials"];
    let described = flow["scopes"].as_object().context("no scopes")?.keys();
    assert_eq!(described.cloned().map(Some).collect::<BTreeSet<_>>(), scopes);
    Ok(())
}

/// The status of every code: of those that a function sends, and of those of the gateway.
fn statuses() -> Result<BTreeMap<String, u16>> {
    let template = local::template::document()?;
    let api = template.pointer("/Resources/Api/Properties/GatewayResponses");
    let responses = api.and_then(Value::as_object).context("no gateway responses")?;
    let mut statuses = BTreeMap::new();
    for response in responses.values() {
        let body = response
            .pointer("/ResponseTemplates/application~1json")
            .and_then(Value::as_str);
        let body: Value = serde_json::from_str(body.context("no body")?)?;
        let code = body.get("code").and_then(Value::as_str).context("no code")?;
        let status = response
            .get("StatusCode")
            .and_then(Value::as_u64)
            .context("no status")?;
        statuses.insert(code.to_owned(), u16::try_from(status)?);
    }
    statuses.extend(Code::ALL.map(|code| (code.as_str().to_owned(), code.status().as_u16())));
    Ok(statuses)
}

#[test]
fn every_code_is_described_with_its_status_and_its_message() -> Outcome {
    let (contract, statuses) = (Contract::get()?, statuses()?);
    let mut described = BTreeMap::new();
    for operation in &contract.operations {
        for (status, answer) in &operation.answers {
            assert_eq!(answer.codes.is_empty(), *status < 400, "{} {status}", operation.id);
            described.extend(answer.codes.iter().map(|code| (code.clone(), *status)));
        }
    }
    assert_eq!(described, statuses);

    let of_codes = texts(schema(contract, "CodeError/properties/code/examples")?);
    let others = texts(schema(contract, "ErrorCode/examples")?);
    assert!(of_codes.is_disjoint(&others));
    assert_eq!(
        of_codes.union(&others).copied().collect::<BTreeSet<_>>(),
        statuses.keys().map(String::as_str).collect()
    );
    Ok(())
}

#[test]
fn limits_and_values_are_those_of_the_code() -> Outcome {
    let contract = Contract::get()?;
    for (pointer, expected) in [
        ("UserName/maxLength", json!(UserName::LONGEST)),
        ("PathUserName/maxLength", json!(UserName::LONGEST)),
        ("DeviceName/maxLength", json!(DeviceName::LONGEST)),
        ("PathDeviceName/maxLength", json!(DeviceName::LONGEST)),
        (
            "RegistrationRequest/properties/issuer/maxLength",
            json!(Issuer::LONGEST),
        ),
        (
            "CodeError/properties/attemptsRemaining/maximum",
            json!(Policy::OWN_ATTEMPTS),
        ),
        ("DeviceStatus/enum", json!(Status::ALL.map(Status::as_str))),
    ] {
        assert_eq!(*schema(contract, pointer)?, expected, "{pointer}");
    }
    let numbers = 0..1_000;
    let digits: Vec<_> = numbers
        .clone()
        .filter(|count| Digits::from_count(*count).is_some())
        .collect();
    let periods: Vec<_> = numbers
        .filter(|seconds| Period::from_seconds(*seconds).is_some())
        .collect();
    let defaults = OtpParameters::default();
    for (name, values, default) in [
        (
            "algorithm",
            json!(Algorithm::ALL.map(Algorithm::as_str)),
            json!(defaults.algorithm.as_str()),
        ),
        ("digits", json!(digits), json!(defaults.digits.count())),
        ("period", json!(periods), json!(defaults.period.seconds())),
    ] {
        let parameter = schema(contract, &format!("RegistrationRequest/properties/{name}"))?;
        assert_eq!(
            (&parameter["enum"], &parameter["default"]),
            (&values, &default),
            "{name}"
        );
    }
    let longest = format!("at most {} bytes", body::LONGEST);
    let description = contract.document["info"]["description"].as_str().unwrap_or_default();
    assert!(description.contains(&longest), "{longest}");
    Ok(())
}

#[test]
fn patterns_accept_what_the_code_accepts() -> Outcome {
    let contract = Contract::get()?;
    let validator = |name: &str| contract.validator(&json!({ "$ref": format!("#/components/schemas/{name}") }));
    let issuer = contract.validator(schema(contract, "RegistrationRequest/properties/issuer")?)?;
    let (user, device) = (validator("UserName")?, validator("DeviceName")?);
    let (path_user, path_device) = (validator("PathUserName")?, validator("PathDeviceName")?);
    // Beyond these there is no control character and no white space.
    let characters = '\0'..='\u{3100}';
    let single = characters.clone().map(String::from);
    let pairs = characters.flat_map(|c| [format!("x{c}"), format!("{c}x"), format!("x{c}x")]);
    let lengths = [63, 64, 65, 127, 128, 129].map(|length| "\u{e4}".repeat(length));
    let others = ["", ".", "..", "...", "a:b", "x\n", "\u{feff}", "me+tag@example.com"].map(str::to_owned);
    for name in single.chain(pairs).chain(lengths).chain(others) {
        let value = json!(name);
        let (is_user, is_device) = (UserName::parse(&name).is_ok(), DeviceName::parse(&name).is_ok());
        assert_eq!(user.is_valid(&value), is_user, "{name:?}");
        assert_eq!(device.is_valid(&value), is_device, "{name:?}");
        assert_eq!(
            path_user.is_valid(&value),
            is_user && can_stand_in_path(&name),
            "{name:?}"
        );
        assert_eq!(
            path_device.is_valid(&value),
            is_device && can_stand_in_path(&name),
            "{name:?}"
        );
        assert_eq!(issuer.is_valid(&value), Issuer::parse(&name).is_ok(), "{name:?}");
    }
    let otp = validator("Otp")?;
    for typed in [
        "523471",
        "523 471",
        " 523-471 ",
        "52347112",
        "5 2 3 4 7 1 1 2",
        "",
        "52347",
        "5234711",
        "523471123",
        "52347a",
        "523471\n",
        "523\t471",
        "\u{665}23471",
        "------",
    ] {
        assert_eq!(otp.is_valid(&json!(typed)), OtpCode::parse(typed).is_ok(), "{typed:?}");
    }
    let code = validator("CodeRequest")?;
    for (body, expected) in [
        (json!({ "otp": "523471" }), true),
        (json!({ "otp": "523471", "deviceType": "TOTP", "other": null }), true),
        (json!({ "otps": ["523471", "083925"] }), true),
        (json!({}), false),
        (json!({ "otp": 523_471 }), false),
        (json!({ "otps": ["523471"] }), false),
        (json!({ "otps": ["523471", "083925", "111111"] }), false),
        (json!({ "otp": "523471", "otps": ["523471", "083925"] }), false),
        (json!({ "otp": "523471", "otps": null }), false),
    ] {
        assert_eq!(code.is_valid(&body), expected, "{body}");
    }
    Ok(())
}

#[test]
fn every_example_is_valid() -> Outcome {
    let contract = Contract::get()?;
    let mut number = 0;
    for operation in &contract.operations {
        let answers = answers(contract, operation)?.into_values();
        for (examples, schema) in answers.chain([request(contract, operation)?]) {
            for example in examples {
                number += 1;
                let validator = contract.validator(schema.context("no schema")?)?;
                assert!(validator.is_valid(example), "{}: {example}", operation.id);
            }
        }
    }
    assert!(number > 80, "only {number} examples were found");
    Ok(())
}

#[test]
fn the_examples_are_those_of_the_documentation() -> Outcome {
    let contract = Contract::get()?;
    let mut used: Vec<&Value> = Vec::new();
    for operation in &contract.operations {
        let mut own = request(contract, operation)?.0;
        for (status, (examples, _)) in answers(contract, operation)? {
            used.extend(&examples);
            if status < 400 {
                own.extend(examples);
            }
        }
        let (_, heading) = SECTIONS
            .into_iter()
            .find(|(id, _)| *id == operation.id)
            .context("no section")?;
        for body in Section::of(heading)?.bodies()? {
            assert!(own.contains(&&body), "{heading}: {body}");
        }
        used.extend(own);
    }
    let mut documented = Vec::new();
    for section in Section::all() {
        for body in section.bodies()? {
            let place = section.heading;
            match section.level {
                4 => assert!(body["code"] == place && used.contains(&&body), "{place}: {body}"),
                // The first is an answer of Cognito; the others were compared above.
                _ => assert!(
                    place.starts_with("Step 1") || SECTIONS.iter().any(|(_, heading)| *heading == place),
                    "{place}"
                ),
            }
            documented.push(body);
        }
    }
    let examples = contract.document["components"]["examples"]
        .as_object()
        .context("no examples")?;
    for (name, example) in examples {
        let value = &example["value"];
        assert!(documented.contains(value), "docs/api.md has no {name}");
        assert!(used.contains(&value), "no operation has {name}");
    }
    Ok(())
}

#[test]
fn the_documentation_lists_the_errors_of_every_operation_and_every_status() -> Outcome {
    let contract = Contract::get()?;
    assert_eq!(contract.operations.len(), SECTIONS.len());
    let mut statuses = BTreeSet::new();
    for operation in &contract.operations {
        let (_, heading) = SECTIONS
            .into_iter()
            .find(|(id, _)| *id == operation.id)
            .context("no section")?;
        let codes: BTreeSet<_> = operation
            .answers
            .values()
            .flat_map(|answer| answer.codes.clone())
            .collect();
        assert_eq!(Section::of(heading)?.codes()?, codes, "{heading}");
        statuses.extend(operation.answers.keys().copied());
    }
    let table = Section::of("What to do with a status")?;
    let cells = table
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let listed: BTreeSet<u16> = cells
        .flat_map(|cell| cell.split(','))
        .filter_map(|one| one.trim().parse().ok())
        .collect();
    assert_eq!(listed, statuses);
    Ok(())
}

/// An answer with the headers of every answer.
fn answer(status: u16, body: &Value, others: &[(&'static str, &'static str)]) -> Result<Answer> {
    let mut headers = reqwest::header::HeaderMap::new();
    let usual = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ];
    for (name, value) in usual.iter().chain(others) {
        headers.insert(*name, value.parse()?);
    }
    let text = body.to_string();
    Ok(Answer { status, headers, text })
}

#[test]
fn an_answer_that_is_not_described_is_found() -> Outcome {
    let contract = Contract::get()?;
    let step_3 = "/deviceAuthentications/0063f27c-787b-4046-8b8e-a75e241b5ea6";
    let example = |name: &str| contract.document["components"]["examples"][name]["value"].clone();
    let check = |answer: &Answer| contract.check(&Method::POST, step_3, answer);
    let (validated, rejected) = (example("validated"), example("OTP_REJECTED"));
    check(&answer(200, &validated, &[("x-amzn-requestid", "any")])?)?;
    check(&answer(422, &rejected, &[])?)?;
    let with = |value: &Value, member: &str| {
        let mut value = value.clone();
        value[member] = json!("more");
        value
    };
    check(&answer(422, &with(&rejected, "more"), &[])?)?;
    let mut bare = answer(200, &validated, &[])?;
    bare.headers.remove("cache-control");
    let limited = example("TOO_MANY_ATTEMPTS");
    check(&answer(429, &limited, &[("retry-after", "1")])?)?;
    let unauthorized = example("UNAUTHORIZED");
    for wrong in [
        bare,
        answer(200, &with(&validated, "more"), &[])?,
        answer(200, &json!({ "status": "SUCCESS" }), &[])?,
        answer(200, &validated, &[("content-type", "text/plain")])?,
        answer(200, &validated, &[("location", "/x")])?,
        answer(201, &validated, &[])?,
        answer(422, &with(&rejected, "code"), &[])?,
        answer(422, &with(&rejected, "codesRequired"), &[])?,
        answer(404, &example("DEVICE_NOT_FOUND"), &[])?,
        answer(429, &limited, &[])?,
        answer(429, &limited, &[("retry-after", "soon")])?,
        answer(401, &unauthorized, &[])?,
        answer(401, &unauthorized, &[("x-amzn-remapped-www-authenticate", "Bearer")])?,
    ] {
        assert!(check(&wrong).is_err(), "{wrong:?}");
    }
    let no_route = answer(404, &example("NOT_FOUND"), &[])?;
    contract.check(&Method::GET, step_3, &no_route)?;
    let success = answer(200, &validated, &[])?;
    assert!(contract.check(&Method::GET, step_3, &success).is_err());
    Ok(())
}
