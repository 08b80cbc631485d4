//! What is read of AWS, from replayed answers of its SDK.

use anyhow::{Context as _, Result};
use aws_sdk_apigateway::operation::get_authorizers::{GetAuthorizersError, GetAuthorizersOutput};
use aws_sdk_apigateway::operation::get_resources::GetResourcesOutput;
use aws_sdk_apigateway::types::Authorizer as ApiAuthorizer;
use aws_sdk_apigateway::types::{Method as ApiMethod, Resource as ApiResource};
use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksOutput;
use aws_sdk_cloudformation::operation::list_stack_resources::ListStackResourcesOutput;
use aws_sdk_cloudformation::primitives::DateTime;
use aws_sdk_cloudformation::types::{Output, Parameter, ResourceStatus, Stack, StackResourceSummary, StackStatus};
use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_cognitoidentityprovider::operation::describe_resource_server::DescribeResourceServerOutput;
use aws_sdk_cognitoidentityprovider::operation::describe_user_pool::{DescribeUserPoolError, DescribeUserPoolOutput};
use aws_sdk_cognitoidentityprovider::types::{ResourceServerScopeType, UserPoolType};
use aws_sdk_dynamodb::operation::describe_continuous_backups::DescribeContinuousBackupsOutput;
use aws_sdk_dynamodb::operation::describe_table::{DescribeTableError, DescribeTableOutput};
use aws_sdk_dynamodb::operation::describe_time_to_live::DescribeTimeToLiveOutput;
use aws_sdk_dynamodb::types::{
    ContinuousBackupsDescription, ContinuousBackupsStatus, KeySchemaElement, PointInTimeRecoveryDescription,
    TableDescription, TimeToLiveDescription,
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use shared::clock::Timestamp;

use super::*;

/// The SDK's own code for an access that was denied, as each service sends it.
macro_rules! denied {
    ($service:ident, $operation:path) => {
        <$operation>::generic(
            $service::error::ErrorMetadata::builder()
                .code("AccessDeniedException")
                .message("arn:aws:iam::1:user/someone may not")
                .build(),
        )
    };
}

/// An inspector whose clients know no answers but these.
#[derive(Default)]
struct Answers {
    cloudformation: Vec<Rule>,
    dynamodb: Vec<Rule>,
    apigateway: Vec<Rule>,
    cognito: Vec<Rule>,
    cloudwatch: Vec<Rule>,
}

impl Answers {
    fn inspector(&self) -> AwsInspector {
        AwsInspector {
            cloudformation: mock_client!(aws_sdk_cloudformation, RuleMode::Sequential, &self.cloudformation),
            dynamodb: mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, &self.dynamodb),
            apigateway: mock_client!(aws_sdk_apigateway, RuleMode::Sequential, &self.apigateway),
            cognito: mock_client!(aws_sdk_cognitoidentityprovider, RuleMode::MatchAny, &self.cognito),
            cloudwatch: mock_client!(aws_sdk_cloudwatch, RuleMode::Sequential, &self.cloudwatch),
            clock: ClockReader::default(),
        }
    }
}

#[tokio::test]
async fn a_stack_is_read_with_its_outputs_and_parameters() -> Result<()> {
    let stack = || {
        let output = |key: &str, value: &str| Output::builder().output_key(key).output_value(value).build();
        let parameter = |key: &str, value: &str| Parameter::builder().parameter_key(key).parameter_value(value).build();
        let stack = Stack::builder()
            .stack_name("mfa")
            .stack_status(StackStatus::UpdateComplete)
            .creation_time(DateTime::from_secs(1_800_000_000))
            .outputs(output("DevicesTable", "Devices-1"))
            .parameters(parameter("Protect", "true"))
            .parameters(parameter("Watch", "false"))
            .build();
        DescribeStacksOutput::builder().stacks(stack).build()
    };
    let rule = mock!(aws_sdk_cloudformation::Client::describe_stacks)
        .match_requests(|request| request.stack_name() == Some("mfa"))
        .then_output(stack);
    let inspector = Answers {
        cloudformation: vec![rule],
        ..Answers::default()
    }
    .inspector();
    let stack = inspector.stack("mfa").await?.context("no stack")?;
    assert_eq!((stack.name.as_str(), stack.status.as_str()), ("mfa", "UPDATE_COMPLETE"));
    assert_eq!(stack.created_at, Some(Timestamp::from_secs(1_800_000_000)));
    assert_eq!(stack.outputs.get("DevicesTable").map(String::as_str), Some("Devices-1"));
    assert!(stack.is_on("Protect") && !stack.is_on("Watch"));
    Ok(())
}

#[tokio::test]
async fn an_unknown_stack_is_none_and_any_other_error_is_one_without_the_services_message() -> Result<()> {
    let error = |code: &'static str, message: &'static str| {
        mock!(aws_sdk_cloudformation::Client::describe_stacks).then_error(move || {
            aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksError::generic(
                aws_sdk_cloudformation::error::ErrorMetadata::builder()
                    .code(code)
                    .message(message)
                    .build(),
            )
        })
    };
    let inspector = Answers {
        cloudformation: vec![
            error("ValidationError", "Stack with id mfa does not exist"),
            error("ValidationError", "1 validation error detected: secret"),
            error("AccessDenied", "user/someone may not"),
        ],
        ..Answers::default()
    }
    .inspector();
    assert_eq!(inspector.stack("mfa").await?, None);
    for expected in [
        "cloudformation:DescribeStacks: ValidationError",
        "cloudformation:DescribeStacks: AccessDenied",
    ] {
        let error = inspector.stack("mfa").await.err().context("an error")?;
        assert_eq!(error.to_string(), expected);
    }
    Ok(())
}

#[tokio::test]
async fn resources_are_read_from_all_pages_and_those_without_a_physical_id_are_left_out() -> Result<()> {
    let page = |after: Option<&'static str>,
                next: Option<&'static str>,
                logical: &'static str,
                physical: Option<&'static str>| {
        mock!(aws_sdk_cloudformation::Client::list_stack_resources)
            .match_requests(move |request| request.next_token() == after)
            .then_output(move || {
                let resource = StackResourceSummary::builder()
                    .logical_resource_id(logical)
                    .set_physical_resource_id(physical.map(str::to_owned))
                    .resource_type("AWS::ApiGateway::RestApi")
                    .last_updated_timestamp(DateTime::from_secs(0))
                    .resource_status(ResourceStatus::CreateComplete)
                    .build();
                ListStackResourcesOutput::builder()
                    .stack_resource_summaries(resource)
                    .set_next_token(next.map(str::to_owned))
                    .build()
            })
    };
    let inspector = Answers {
        cloudformation: vec![
            page(None, Some("2"), "Api", Some("abc")),
            page(Some("2"), Some("3"), "Failed", None),
            page(Some("3"), None, "GatedAlarm", Some("mfa-gated")),
        ],
        ..Answers::default()
    }
    .inspector();
    let resource = |logical: &str, physical: &str| Resource {
        logical_id: logical.to_owned(),
        physical_id: physical.to_owned(),
    };
    let expected = [resource("Api", "abc"), resource("GatedAlarm", "mfa-gated")];
    assert_eq!(inspector.resources("mfa").await?, expected);
    Ok(())
}

fn table_answer() -> Rule {
    mock!(aws_sdk_dynamodb::Client::describe_table).then_output(|| {
        let key = |name: &str, kind: KeyType| {
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            element.unwrap_or_else(|_| unreachable!("both are set"))
        };
        // The sort key first: the order is not specified.
        let table = TableDescription::builder()
            .table_status(TableStatus::Active)
            .key_schema(key("sk", KeyType::Range))
            .key_schema(key("pk", KeyType::Hash))
            .deletion_protection_enabled(true)
            .build();
        DescribeTableOutput::builder().table(table).build()
    })
}

fn ttl_answer(status: TimeToLiveStatus) -> Rule {
    mock!(aws_sdk_dynamodb::Client::describe_time_to_live).then_output(move || {
        let ttl = TimeToLiveDescription::builder()
            .attribute_name("expiresAt")
            .time_to_live_status(status.clone())
            .build();
        DescribeTimeToLiveOutput::builder()
            .time_to_live_description(ttl)
            .build()
    })
}

fn backups_answer(status: PointInTimeRecoveryStatus) -> Rule {
    mock!(aws_sdk_dynamodb::Client::describe_continuous_backups).then_output(move || {
        let recovery = PointInTimeRecoveryDescription::builder()
            .point_in_time_recovery_status(status.clone())
            .build();
        let backups = ContinuousBackupsDescription::builder()
            .continuous_backups_status(ContinuousBackupsStatus::Enabled)
            .point_in_time_recovery_description(recovery)
            .build();
        let backups = backups.unwrap_or_else(|_| unreachable!("the status is set"));
        DescribeContinuousBackupsOutput::builder()
            .continuous_backups_description(backups)
            .build()
    })
}

#[tokio::test]
async fn a_table_has_its_key_ttl_backups_and_protection() -> Result<()> {
    use PointInTimeRecoveryStatus as Recovery;
    use TimeToLiveStatus as Ttl;
    for (ttl, recovery, attribute, backups) in [
        (Ttl::Enabled, Recovery::Enabled, Some("expiresAt"), true),
        (Ttl::Enabling, Recovery::Disabled, Some("expiresAt"), false),
        (Ttl::Disabled, Recovery::Enabled, None, true),
        (Ttl::Disabling, Recovery::Enabled, None, true),
    ] {
        let inspector = Answers {
            dynamodb: vec![table_answer(), ttl_answer(ttl), backups_answer(recovery)],
            ..Answers::default()
        }
        .inspector();
        let table = inspector.table("Devices-1").await?.context("no table")?;
        assert_eq!(table.key, ["pk", "sk"]);
        assert_eq!((table.ttl.as_deref(), table.backups), (attribute, Some(backups)));
        assert!(table.active && table.protected);
    }
    Ok(())
}

#[tokio::test]
async fn a_store_without_backups_a_missing_table_and_a_denied_call_differ() -> Result<()> {
    let unknown = mock!(aws_sdk_dynamodb::Client::describe_continuous_backups).then_error(|| {
        aws_sdk_dynamodb::operation::describe_continuous_backups::DescribeContinuousBackupsError::generic(
            aws_sdk_dynamodb::error::ErrorMetadata::builder()
                .code("UnknownOperationException")
                .build(),
        )
    });
    let local = Answers {
        dynamodb: vec![table_answer(), ttl_answer(TimeToLiveStatus::Enabled), unknown],
        ..Answers::default()
    };
    let table = local.inspector().table("Devices-1").await?.context("no table")?;
    assert_eq!(table.backups, None);

    let missing = mock!(aws_sdk_dynamodb::Client::describe_table).then_error(|| {
        DescribeTableError::generic(
            aws_sdk_dynamodb::error::ErrorMetadata::builder()
                .code("ResourceNotFoundException")
                .build(),
        )
    });
    let missing = Answers {
        dynamodb: vec![missing],
        ..Answers::default()
    };
    assert_eq!(missing.inspector().table("Devices-1").await?, None);

    let denied =
        mock!(aws_sdk_dynamodb::Client::describe_table).then_error(|| denied!(aws_sdk_dynamodb, DescribeTableError));
    let denied = Answers {
        dynamodb: vec![denied],
        ..Answers::default()
    };
    let error = denied.inspector().table("Devices-1").await.err().context("an error")?;
    assert_eq!(error.to_string(), "dynamodb:DescribeTable: AccessDeniedException");
    Ok(())
}

fn authorizers_page(after: Option<&'static str>, next: Option<&'static str>, id: &'static str) -> Rule {
    mock!(aws_sdk_apigateway::Client::get_authorizers)
        .match_requests(move |request| request.rest_api_id() == Some("abc") && request.position() == after)
        .then_output(move || {
            let authorizer = ApiAuthorizer::builder()
                .id(id)
                .r#type(AuthorizerType::CognitoUserPools)
                .provider_arns("arn:aws:cognito-idp:eu-west-1:1:userpool/eu-west-1_pool")
                .build();
            GetAuthorizersOutput::builder()
                .items(authorizer)
                .set_position(next.map(str::to_owned))
                .build()
        })
}

fn resources_page(
    after: Option<&'static str>,
    next: Option<&'static str>,
    path: &'static str,
    method: ApiMethod,
) -> Rule {
    mock!(aws_sdk_apigateway::Client::get_resources)
        .match_requests(move |request| request.position() == after && request.embed() == ["methods"])
        .then_output(move || {
            let resource = ApiResource::builder()
                .path(path)
                .resource_methods("POST", method.clone())
                .build();
            GetResourcesOutput::builder()
                .items(resource)
                .set_position(next.map(str::to_owned))
                .build()
        })
}

#[tokio::test]
async fn authorizers_and_methods_are_read_from_all_pages() -> Result<()> {
    let with_scope = ApiMethod::builder()
        .authorization_type("COGNITO_USER_POOLS")
        .authorizer_id("a2")
        .authorization_scopes("mfa/other")
        .build();
    let open = ApiMethod::builder().build();
    let inspector = Answers {
        apigateway: vec![
            authorizers_page(None, Some("2"), "a1"),
            authorizers_page(Some("2"), None, "a2"),
            resources_page(None, Some("2"), "/z", with_scope),
            resources_page(Some("2"), None, "/a", open),
        ],
        ..Answers::default()
    }
    .inspector();
    let access = inspector.api_access("abc").await?.context("no API")?;
    let ids: Vec<&str> = access
        .authorizers
        .iter()
        .map(|authorizer| authorizer.id.as_str())
        .collect();
    assert_eq!(ids, ["a1", "a2"]);
    assert!(
        access
            .authorizers
            .iter()
            .all(|authorizer| authorizer.kind == "COGNITO_USER_POOLS")
    );
    assert!(access.authorizers.iter().all(|authorizer| authorizer.pools.len() == 1));
    let [open, with_scope] = access.methods.as_slice() else {
        anyhow::bail!("not two methods: {:?}", access.methods)
    };
    // Sorted by path; a method without an authorization type is open to everyone.
    assert_eq!((open.path.as_str(), open.authorization.as_str()), ("/a", "NONE"));
    assert_eq!((&open.authorizer, open.scopes.len()), (&None, 0));
    assert_eq!((with_scope.verb.as_str(), with_scope.path.as_str()), ("POST", "/z"));
    assert_eq!(with_scope.authorizer.as_deref(), Some("a2"));
    assert_eq!(with_scope.scopes, ["mfa/other"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_api_is_none_and_a_denied_call_is_an_error() -> Result<()> {
    let error = |code: &'static str| {
        mock!(aws_sdk_apigateway::Client::get_authorizers).then_error(move || {
            GetAuthorizersError::generic(aws_sdk_apigateway::error::ErrorMetadata::builder().code(code).build())
        })
    };
    let inspector = Answers {
        apigateway: vec![error("NotFoundException"), error("AccessDeniedException")],
        ..Answers::default()
    }
    .inspector();
    assert_eq!(inspector.api_access("abc").await?, None);
    let error = inspector.api_access("abc").await.err().context("an error")?;
    assert_eq!(
        error.to_string(),
        "apigateway:GET /restapis/*/authorizers: AccessDeniedException"
    );
    Ok(())
}

#[tokio::test]
async fn a_user_pool_has_its_protection_and_the_scopes_of_its_server() -> Result<()> {
    let pool = || {
        mock!(aws_sdk_cognitoidentityprovider::Client::describe_user_pool).then_output(|| {
            let pool = UserPoolType::builder()
                .deletion_protection(DeletionProtectionType::Active)
                .build();
            DescribeUserPoolOutput::builder().user_pool(pool).build()
        })
    };
    let server = mock!(aws_sdk_cognitoidentityprovider::Client::describe_resource_server)
        .match_requests(|request| request.identifier() == Some("mfa"))
        .then_output(|| {
            let scope = ResourceServerScopeType::builder()
                .scope_name("authenticate")
                .scope_description("authenticate")
                .build();
            let scope = scope.unwrap_or_else(|_| unreachable!("both are set"));
            let server = ResourceServerType::builder().scopes(scope).build();
            DescribeResourceServerOutput::builder().resource_server(server).build()
        });
    let with_server = Answers {
        cognito: vec![pool(), server],
        ..Answers::default()
    };
    let found = with_server
        .inspector()
        .user_pool("pool", "mfa")
        .await?
        .context("no pool")?;
    assert_eq!(
        (found.protected, found.scopes),
        (true, vec!["mfa/authenticate".to_owned()])
    );

    let no_server = mock!(aws_sdk_cognitoidentityprovider::Client::describe_resource_server).then_error(|| {
        aws_sdk_cognitoidentityprovider::operation::describe_resource_server::DescribeResourceServerError::generic(
            aws_sdk_cognitoidentityprovider::error::ErrorMetadata::builder()
                .code("ResourceNotFoundException")
                .build(),
        )
    });
    let without_server = Answers {
        cognito: vec![pool(), no_server],
        ..Answers::default()
    };
    let found = without_server
        .inspector()
        .user_pool("pool", "mfa")
        .await?
        .context("no pool")?;
    assert!(found.scopes.is_empty());

    let denied = mock!(aws_sdk_cognitoidentityprovider::Client::describe_user_pool)
        .then_error(|| denied!(aws_sdk_cognitoidentityprovider, DescribeUserPoolError));
    let denied = Answers {
        cognito: vec![denied],
        ..Answers::default()
    };
    let error = denied
        .inspector()
        .user_pool("pool", "mfa")
        .await
        .err()
        .context("an error")?;
    assert_eq!(error.to_string(), "cognito-idp:DescribeUserPool: AccessDeniedException");
    Ok(())
}

#[tokio::test]
async fn alarms_are_described_a_hundred_at_a_time() -> Result<()> {
    let call = |number: usize, name: &'static str, state: StateValue| {
        mock!(aws_sdk_cloudwatch::Client::describe_alarms)
            .match_requests(move |request| request.alarm_names().len() == number)
            .then_output(move || {
                let alarm = MetricAlarm::builder()
                    .alarm_name(name)
                    .actions_enabled(true)
                    .alarm_actions("arn:aws:sns:eu-west-1:1:topic")
                    .state_value(state.clone())
                    .build();
                DescribeAlarmsOutput::builder().metric_alarms(alarm).build()
            })
    };
    let inspector = Answers {
        cloudwatch: vec![call(100, "first", StateValue::Ok), call(1, "last", StateValue::Alarm)],
        ..Answers::default()
    }
    .inspector();
    let names: Vec<String> = (0..101).map(|number| format!("alarm-{number}")).collect();
    let alarms = inspector.alarms(&names).await?;
    let states: Vec<(&str, bool)> = alarms
        .iter()
        .map(|alarm| (alarm.name.as_str(), alarm.in_alarm))
        .collect();
    assert_eq!(states, [("first", false), ("last", true)]);
    assert!(
        alarms
            .iter()
            .all(|alarm| alarm.actions_enabled && alarm.actions.len() == 1)
    );
    assert!(inspector.alarms(&[]).await?.is_empty());
    Ok(())
}
