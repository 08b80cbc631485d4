use aws_sdk_apigateway::Client as ApiGateway;
use aws_sdk_apigateway::error::ProvideErrorMetadata as _;
use aws_sdk_apigateway::types::AuthorizerType;
use aws_sdk_cloudformation::Client as CloudFormation;
use aws_sdk_cloudformation::types::{ResourceStatus, Stack as Described, StackStatus};
use shared::aws::sdk::Clients;

use super::*;
use crate::stack::{Options, Stack};
use crate::template::OF_THIS_CHECKOUT;

fn cloudformation_of(stack: &Stack) -> CloudFormation {
    let settings = aws_sdk_cloudformation::config::Builder::from(&Clients::settings_of_local_stores());
    CloudFormation::from_conf(settings.endpoint_url(stack.control_plane_url()).build())
}

fn api_gateway_of(stack: &Stack) -> ApiGateway {
    let settings = aws_sdk_apigateway::config::Builder::from(&Clients::settings_of_local_stores());
    ApiGateway::from_conf(settings.endpoint_url(stack.control_plane_url()).build())
}

async fn described(stack: &Stack) -> Result<Described> {
    let request = cloudformation_of(stack)
        .describe_stacks()
        .stack_name(stack.stack_name());
    let stacks = request.send().await?.stacks.unwrap_or_default();
    assert_eq!(stacks.len(), 1);
    stacks.into_iter().next().context("no stack")
}

fn outputs(stack: &Described) -> BTreeMap<&str, &str> {
    let outputs = stack.outputs().iter();
    outputs
        .filter_map(|output| Some((output.output_key()?, output.output_value()?)))
        .collect()
}

fn parameters_of(stack: &Described) -> BTreeMap<&str, &str> {
    let parameters = stack.parameters().iter();
    parameters
        .filter_map(|parameter| Some((parameter.parameter_key()?, parameter.parameter_value()?)))
        .collect()
}

/// The pages of its resources: logical id, physical id, type, status.
async fn resources(stack: &Stack) -> Result<Vec<Vec<[String; 4]>>> {
    let mut pages = cloudformation_of(stack)
        .list_stack_resources()
        .stack_name(stack.stack_name())
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page?;
        let page = page.stack_resource_summaries().iter().map(|resource| {
            assert!(resource.last_updated_timestamp().is_some());
            [
                resource.logical_resource_id(),
                resource.physical_resource_id(),
                resource.resource_type(),
                resource.resource_status().map(ResourceStatus::as_str),
            ]
            .map(|value| value.unwrap_or_default().to_owned())
        });
        found.push(page.collect());
    }
    Ok(found)
}

#[tokio::test]
async fn a_stack_has_the_outputs_of_the_template_with_what_really_is_here() -> Result<()> {
    let clock = Arc::new(LocalClock::still(Timestamp::from_millis(1_800_000_000_500)));
    let options = Options {
        clock: Some(clock),
        ..Options::default()
    };
    let stack = Stack::start(options).await?;
    let found = described(&stack).await?;
    assert_eq!(found.stack_name(), Some("mfa"));
    let id = found.stack_id().context("no id")?;
    let prefix = "arn:aws:cloudformation:us-east-1:123456789012:stack/mfa/";
    let unique = id.strip_prefix(prefix).context("another id")?;
    assert!(uuid::Uuid::parse_str(unique).is_ok(), "{id}");
    assert_eq!(found.stack_status(), Some(&StackStatus::CreateComplete));
    let created = found.creation_time().context("no time")?;
    assert_eq!(created.to_millis()?, 1_800_000_000_500);

    let [first, _] = stack.clients();
    let (api_url, token_url) = (stack.api_url(), stack.token_url());
    let expected = BTreeMap::from([
        ("ApiUrl", api_url.as_str()),
        ("TokenUrl", &token_url),
        ("UserPoolId", stack.user_pool_id()),
        ("ClientId", first.id().as_str()),
        ("AuthsTable", "Auths"),
        ("DevicesTable", "Devices"),
        ("SeedPrefix", "mfa/seed/"),
    ]);
    assert_eq!(outputs(&found), expected);
    let names = Template::parse(OF_THIS_CHECKOUT)?.outputs;
    assert_eq!(
        names.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        expected.into_keys().collect()
    );

    let by_id = cloudformation_of(&stack)
        .describe_stacks()
        .stack_name(id)
        .send()
        .await?;
    assert_eq!(by_id.stacks(), std::slice::from_ref(&found));
    let all = cloudformation_of(&stack).describe_stacks().send().await?;
    assert_eq!(all.stacks(), [found]);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn parameters_are_the_stacks_settings_or_the_templates_defaults() -> Result<()> {
    let settings = [
        (config::GUESS_POLICY, "custom"),
        (config::GUESS_BURST, "10"),
        (config::GUESS_REFILL_HOURS, "48"),
        (config::GUESS_PAIR_GAP_SECONDS, "2"),
    ];
    let options = Options {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Options::default()
    };
    for (options, told) in [
        (Options::default(), ["standard", "20", "36", "1"]),
        (options, ["custom", "10", "48", "2"]),
    ] {
        let stack = Stack::start(options).await?;
        let expected = [
            ("GuessPolicy", told[0]),
            ("GuessBurst", told[1]),
            ("GuessRefillHours", told[2]),
            ("GuessPairGapSeconds", told[3]),
            ("Protect", "false"),
            ("Watch", "false"),
            ("SeedKey", ""),
        ];
        assert_eq!(parameters_of(&described(&stack).await?), expected.into());
        stack.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_lists_what_really_is_here_in_pages() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let [first, _] = stack.clients();
    let row =
        |logical: &str, physical: &str, kind: &str| [logical, physical, kind, "CREATE_COMPLETE"].map(str::to_owned);
    let expected = [
        [
            row("Auths", "Auths", "AWS::DynamoDB::Table"),
            row("Devices", "Devices", "AWS::DynamoDB::Table"),
            row("Api", "localapi00", "AWS::ApiGateway::RestApi"),
        ],
        [
            row("UserPool", stack.user_pool_id(), "AWS::Cognito::UserPool"),
            row("ResourceServer", "mfa", "AWS::Cognito::UserPoolResourceServer"),
            row("Client", first.id().as_str(), "AWS::Cognito::UserPoolClient"),
        ],
    ];
    assert_eq!(resources(&stack).await?, expected);
    let template = Template::parse(OF_THIS_CHECKOUT)?;
    let tables: Vec<&str> = template.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(tables, [AUTHS_TABLE, DEVICES_TABLE]);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_cloudformations_words() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let client = cloudformation_of(&stack);
    let refused = |error: aws_sdk_cloudformation::Error| {
        [error.code(), error.message()].map(|text| text.unwrap_or_default().to_owned())
    };
    let described = |name: &str| client.describe_stacks().stack_name(name).send();
    let error = described("mfa<&>2").await.err().context("another stack")?;
    assert_eq!(
        refused(error.into()),
        ["ValidationError", "Stack with id mfa<&>2 does not exist"]
    );
    let error = client.describe_stacks().next_token("Auths").send().await.err();
    assert_eq!(refused(error.context("a second page")?.into())[0], "ValidationError");
    for (name, after) in [("mfa2", None), ("mfa", Some("Nothing".to_owned()))] {
        let listed = client.list_stack_resources().stack_name(name).set_next_token(after);
        let error = listed.send().await.err().context("a list")?;
        assert_eq!(refused(error.into())[0], "ValidationError", "{name}");
    }
    let error = client
        .delete_stack()
        .stack_name("mfa")
        .send()
        .await
        .err()
        .context("deleted")?;
    let expected = "Could not find operation DeleteStack for version 2010-05-15";
    assert_eq!(refused(error.into()), ["InvalidAction", expected]);

    let http = reqwest::Client::builder().no_proxy().build()?;
    for (request, expected) in [
        (
            http.post(stack.control_plane_url())
                .form(&[("Action", "ListStackResources")]),
            "ValidationError",
        ),
        (
            http.post(stack.control_plane_url()).body("Action=DescribeStacks"),
            "MalformedQueryString",
        ),
        (
            http.post(stack.control_plane_url()).form(&[("StackName", "mfa")]),
            "InvalidAction",
        ),
    ] {
        let response = request.send().await?;
        assert_eq!(response.status().as_u16(), 400);
        let body = response.text().await?;
        assert!(body.contains(&format!("<Code>{expected}</Code>")), "{body}");
    }
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_api_says_whom_it_lets_in() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let client = api_gateway_of(&stack);
    let api = resources(&stack).await?[0][2][1].clone();
    let found = client.get_authorizers().rest_api_id(&api).send().await?;
    assert_eq!((found.items().len(), found.position()), (1, None));
    let authorizer = found.items().first().context("no authorizer")?;
    assert_eq!(authorizer.name(), Some("Cognito"));
    assert_eq!(
        authorizer.r#type().map(AuthorizerType::as_str),
        Some("COGNITO_USER_POOLS")
    );
    let pool = format!(
        "arn:aws:cognito-idp:us-east-1:123456789012:userpool/{}",
        stack.user_pool_id()
    );
    assert_eq!(authorizer.provider_arns(), [pool]);

    let list = || client.get_resources().rest_api_id(&api).embed("methods");
    let (mut paths, mut parts, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    let (mut called, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = list().set_position(after).send().await?;
        sizes.push(page.items().len());
        for resource in page.items() {
            paths.push(resource.path().unwrap_or_default().to_owned());
            parts.push(resource.path_part().unwrap_or_default().to_owned());
            assert!(
                resource.parent_id().is_none_or(|parent| ids.contains(parent)),
                "{resource:?}"
            );
            ids.insert(resource.id().context("no id")?.to_owned());
            for (verb, method) in resource.resource_methods().into_iter().flatten() {
                assert_eq!(method.http_method(), Some(verb.as_str()));
                assert_eq!(method.authorization_type(), Some("COGNITO_USER_POOLS"));
                assert_eq!(method.authorizer_id(), authorizer.id());
                called.push((
                    verb.clone(),
                    paths.last().cloned(),
                    method.authorization_scopes().to_vec(),
                ));
            }
        }
        after = page.position().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((sizes, ids.len()), (vec![2, 1], 3));
    assert_eq!(
        paths,
        ["/", "/deviceAuthentications", "/deviceAuthentications/{authId}"]
    );
    assert_eq!(parts, ["", "deviceAuthentications", "{authId}"]);
    let routes = Template::parse(OF_THIS_CHECKOUT)?.routes;
    let routes = routes
        .into_iter()
        .map(|route| (route.method.to_string(), Some(route.resource), route.scopes));
    assert_eq!(called, routes.collect::<Vec<_>>());

    let mut sizes = Vec::new();
    let mut pages = list().limit(1).into_paginator().send();
    while let Some(page) = pages.next().await {
        sizes.push(page?.items().len());
    }
    assert_eq!(sizes, [1, 1, 1]);
    let named = client.get_resources().rest_api_id(&api).limit(500).send().await?;
    let methods = named
        .items()
        .iter()
        .filter_map(|resource| resource.resource_methods()?.get("POST"));
    let bare = aws_sdk_apigateway::types::Method::builder().build();
    assert_eq!(methods.collect::<Vec<_>>(), [&bare], "named only");
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_api_gateways_words() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let client = api_gateway_of(&stack);
    let other = client
        .get_authorizers()
        .rest_api_id("other")
        .send()
        .await
        .err()
        .context("another API")?;
    assert!(other.into_service_error().is_not_found_exception());
    let other = client
        .get_resources()
        .rest_api_id("other")
        .send()
        .await
        .err()
        .context("another API")?;
    let other = other.into_service_error();
    assert!(other.is_not_found_exception());
    assert_eq!(
        other.message(),
        Some("Invalid API identifier specified 123456789012:other")
    );
    let list = || client.get_resources().rest_api_id(API_ID);
    for request in [
        list().limit(0),
        list().limit(501),
        list().position("none"),
        list().embed("all"),
    ] {
        let error = request.send().await.err().context("a page")?;
        assert!(error.into_service_error().is_bad_request_exception());
    }
    let error = client.get_rest_apis().send().await.err().context("all APIs")?;
    assert_eq!(error.into_service_error().code(), Some("BadRequestException"));
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn what_it_says_can_be_changed() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let odd = "a <b> & \"c\"\r\n]]> é";
    stack.control_plane().change(|deployed| {
        deployed.status = "UPDATE_ROLLBACK_FAILED".to_owned();
        deployed.outputs.remove("ApiUrl");
        deployed.outputs.insert("Odd".to_owned(), odd.to_owned());
        deployed.parameters.insert("Protect".to_owned(), "true".to_owned());
        deployed.resources.retain(|resource| resource.logical_id != "Auths");
        for resource in &mut deployed.resources {
            resource.status = "UPDATE_FAILED".to_owned();
        }
        for authorizer in &mut deployed.authorizers {
            authorizer.provider_arns.push("arn:other".to_owned());
        }
        let open = Method {
            path: "/open/door".to_owned(),
            http_method: "GET".to_owned(),
            authorization_type: "NONE".to_owned(),
            authorizer_id: None,
            authorization_scopes: Vec::new(),
        };
        deployed.methods = vec![open];
    });
    let found = described(&stack).await?;
    assert_eq!(found.stack_status(), Some(&StackStatus::UpdateRollbackFailed));
    let outputs = outputs(&found);
    assert_eq!((outputs.get("ApiUrl"), outputs.get("Odd")), (None, Some(&odd)));
    assert_eq!(parameters_of(&found).get("Protect"), Some(&"true"));
    let resources = resources(&stack).await?.concat();
    assert!(
        resources
            .iter()
            .all(|[logical, .., status]| logical != "Auths" && status == "UPDATE_FAILED")
    );

    let client = api_gateway_of(&stack);
    let authorizers = client.get_authorizers().rest_api_id(API_ID).send().await?;
    let arns = authorizers.items().first().context("no authorizer")?.provider_arns();
    assert_eq!((arns.len(), arns.last().map(String::as_str)), (2, Some("arn:other")));
    let mut pages = client
        .get_resources()
        .rest_api_id(API_ID)
        .embed("methods")
        .into_paginator()
        .items()
        .send();
    let mut open = Vec::new();
    while let Some(resource) = pages.next().await {
        let resource = resource?;
        let get = resource.resource_methods().and_then(|methods| methods.get("GET"));
        open.extend(get.map(|get| (resource.path.clone(), get.clone())));
    }
    let [(path, method)] = open.as_slice() else {
        panic!("{open:?}")
    };
    assert_eq!(
        (path.as_deref(), method.authorization_type()),
        (Some("/open/door"), Some("NONE"))
    );
    assert_eq!(
        (method.authorizer_id(), method.authorization_scopes.as_ref()),
        (None, None)
    );
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn every_answer_is_dated_by_the_stacks_clock() -> Result<()> {
    let options = Options {
        clock: Some(Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000)))),
        ..Options::default()
    };
    let stack = Stack::start(options).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = stack.control_plane_url();
    for expected in ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 09:00:00 GMT"] {
        for request in [
            http.post(url).form(&[("Action", "DescribeStacks")]),
            http.post(url).form(&[("Action", "Other")]),
            http.post(url),
            http.put(url),
            http.get(format!("{url}/restapis/{API_ID}/authorizers")),
            http.get(format!("{url}/restapis/{API_ID}/resources?limit=x")),
            http.get(format!("{url}/restapis/other/resources")),
            http.get(format!("{url}/other")),
        ] {
            let response = request.send().await?;
            let date = response.headers().get("date").and_then(|date| date.to_str().ok());
            assert_eq!(date, Some(expected));
        }
        stack.advance(std::time::Duration::from_hours(1))?;
    }
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_stack_keeps_its_id_with_its_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let options = Options {
            data_dir: Some(crate::files::DataDir::open(folder.path())?),
            ..Options::default()
        };
        let stack = Stack::start(options).await?;
        ids.insert(stack.control_plane().deployed().stack_id);
        stack.shutdown().await;
    }
    assert_eq!(ids.len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_file_of_a_running_stack_says_its_name_and_where_to_ask() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stack = Stack::start(Options::default()).await?;
    let files = crate::usage::LocalFiles::write(folder.path(), &stack)?;
    let file: Value = serde_json::from_slice(&std::fs::read(folder.path().join("stack.json"))?)?;
    assert_eq!(file["stackName"], "mfa");
    assert_eq!(file["controlPlaneUrl"], stack.control_plane_url());
    files.remove()?;
    stack.shutdown().await;
    Ok(())
}
