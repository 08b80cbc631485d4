//! [`Inspector`] over read calls of AWS.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_apigateway::types::AuthorizerType;
use aws_sdk_cloudformation::config::http::HttpRequest;
use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_cognitoidentityprovider::types::{DeletionProtectionType, ResourceServerType};
use aws_sdk_dynamodb::types::{KeyType, PointInTimeRecoveryStatus, TableStatus, TimeToLiveStatus};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use shared::aws::sdk::SdkConfig;
use shared::clock::Clock;
use shared::error::chain;

use super::clock::{AnswerClock, ClockReader, timestamp};
use crate::ports::stack::{
    Alarm, ApiAccess, Authorizer, ClockOffset, DeployedStack, InspectError, Inspector, Method, Resource, Table,
    UserPool,
};

/// The most alarms that `CloudWatch` describes in one call.
const ALARMS_PER_CALL: usize = 100;
/// The most items that API Gateway lists in one call.
const ITEMS_PER_CALL: i32 = 500;
/// How long the API may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoints of the local stack, which has no `CloudFormation`, no API Gateway and no `CloudWatch`.
#[derive(Debug, Clone, Copy)]
pub struct LocalEndpoints<'a> {
    pub dynamodb: &'a str,
    pub cognito: &'a str,
}

/// Reads a deployed stack through the SDK.
#[derive(Debug)]
pub struct AwsInspector {
    cloudformation: aws_sdk_cloudformation::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    apigateway: aws_sdk_apigateway::Client,
    cognito: aws_sdk_cognitoidentityprovider::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    clock: ClockReader,
}

impl AwsInspector {
    /// Clients with the settings of `sdk`; `clock` is compared with AWS's.
    #[must_use]
    pub fn new(sdk: &SdkConfig, clock: impl Clock + fmt::Debug + 'static, local: Option<LocalEndpoints<'_>>) -> Self {
        let (answer_clock, reader) = AnswerClock::new(clock);
        let cloudformation = aws_sdk_cloudformation::config::Builder::from(sdk).interceptor(answer_clock);
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(sdk);
        let mut cognito = aws_sdk_cognitoidentityprovider::config::Builder::from(sdk);
        if let Some(local) = local {
            dynamodb = dynamodb.endpoint_url(local.dynamodb);
            cognito = cognito.endpoint_url(local.cognito);
        }
        Self {
            cloudformation: aws_sdk_cloudformation::Client::from_conf(cloudformation.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            apigateway: aws_sdk_apigateway::Client::new(sdk),
            cognito: aws_sdk_cognitoidentityprovider::Client::from_conf(cognito.build()),
            cloudwatch: aws_sdk_cloudwatch::Client::new(sdk),
            clock: reader,
        }
    }

    async fn ttl(&self, table: &str) -> Result<Option<String>, InspectError> {
        let described = self.dynamodb.describe_time_to_live().table_name(table).send().await;
        let described = described.map_err(|error| failed("dynamodb:DescribeTimeToLive", &error))?;
        let ttl = described.time_to_live_description();
        let on = ttl.filter(|ttl| {
            matches!(
                ttl.time_to_live_status(),
                Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
            )
        });
        Ok(on.and_then(|ttl| ttl.attribute_name()).map(str::to_owned))
    }

    async fn backups(&self, table: &str) -> Result<Option<bool>, InspectError> {
        let described = self.dynamodb.describe_continuous_backups().table_name(table).send();
        let described = match described.await {
            Ok(described) => described,
            // The local store.
            Err(error) if error.code() == Some("UnknownOperationException") => return Ok(None),
            Err(error) => return Err(failed("dynamodb:DescribeContinuousBackups", &error)),
        };
        let backups = described.continuous_backups_description();
        let recovery = backups.and_then(|backups| backups.point_in_time_recovery_description());
        let status = recovery.and_then(|description| description.point_in_time_recovery_status());
        Ok(Some(status == Some(&PointInTimeRecoveryStatus::Enabled)))
    }

    async fn authorizers(&self, api: &str) -> Result<Option<Vec<Authorizer>>, InspectError> {
        let (mut all, mut position) = (Vec::new(), None);
        loop {
            let get = self.apigateway.get_authorizers().rest_api_id(api).limit(ITEMS_PER_CALL);
            let page = match get.set_position(position).send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("NotFoundException") => return Ok(None),
                Err(error) => return Err(failed("apigateway:GET /restapis/*/authorizers", &error)),
            };
            all.extend(page.items().iter().map(|authorizer| Authorizer {
                id: authorizer.id().unwrap_or_default().to_owned(),
                kind: authorizer.r#type().map_or("", AuthorizerType::as_str).to_owned(),
                pools: authorizer.provider_arns().to_vec(),
            }));
            position = page.position;
            if position.is_none() {
                return Ok(Some(all));
            }
        }
    }

    async fn methods(&self, api: &str) -> Result<Vec<Method>, InspectError> {
        let get = self.apigateway.get_resources().rest_api_id(api).embed("methods");
        let mut pages = get.limit(ITEMS_PER_CALL).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("apigateway:GET /restapis/*/resources", &error))?;
            for resource in page.items() {
                let methods = resource.resource_methods().into_iter().flatten();
                all.extend(methods.map(|(verb, method)| Method {
                    verb: verb.clone(),
                    path: resource.path().unwrap_or_default().to_owned(),
                    authorization: method.authorization_type().unwrap_or("NONE").to_owned(),
                    authorizer: method.authorizer_id().map(str::to_owned),
                    scopes: method.authorization_scopes().to_vec(),
                }));
            }
        }
        all.sort_by(|one, other| (&one.path, &one.verb).cmp(&(&other.path, &other.verb)));
        Ok(all)
    }

    async fn scopes(&self, pool: &str, server: &str) -> Result<Vec<String>, InspectError> {
        let describe = self
            .cognito
            .describe_resource_server()
            .user_pool_id(pool)
            .identifier(server);
        let described = match describe.send().await {
            Ok(described) => described,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(Vec::new()),
            Err(error) => return Err(failed("cognito-idp:DescribeResourceServer", &error)),
        };
        let scopes = described.resource_server().map(ResourceServerType::scopes);
        let scopes = scopes.unwrap_or_default().iter();
        Ok(scopes.map(|scope| format!("{server}/{}", scope.scope_name())).collect())
    }
}

fn failed<E, R>(call: &'static str, error: &SdkError<E, R>) -> InspectError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    // Not the service's message, which may quote the request.
    let reason = error.code().map_or_else(|| chain(error), str::to_owned);
    InspectError { call, reason }
}

impl Inspector for AwsInspector {
    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, InspectError> {
        let described = match self.cloudformation.describe_stacks().stack_name(name).send().await {
            Ok(described) => described,
            // CloudFormation has no error code of its own for this.
            Err(error)
                if error.code() == Some("ValidationError")
                    && error.message().is_some_and(|text| text.contains("does not exist")) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed("cloudformation:DescribeStacks", &error)),
        };
        let Some(stack) = described.stacks().first() else {
            return Ok(None);
        };
        let outputs = stack.outputs().iter();
        let parameters = stack.parameters().iter();
        Ok(Some(DeployedStack {
            name: name.to_owned(),
            created_at: stack.creation_time().and_then(timestamp),
            status: stack.stack_status().map_or("", |status| status.as_str()).to_owned(),
            outputs: outputs
                .filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())))
                .collect(),
            parameters: parameters
                .filter_map(|given| Some((given.parameter_key()?.to_owned(), given.parameter_value()?.to_owned())))
                .collect(),
            resources: Vec::new(),
        }))
    }

    async fn resources(&self, name: &str) -> Result<Vec<Resource>, InspectError> {
        let mut pages = self
            .cloudformation
            .list_stack_resources()
            .stack_name(name)
            .into_paginator()
            .send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("cloudformation:ListStackResources", &error))?;
            // One that could not be created has no physical id.
            all.extend(page.stack_resource_summaries().iter().filter_map(|resource| {
                Some(Resource {
                    logical_id: resource.logical_resource_id()?.to_owned(),
                    physical_id: resource.physical_resource_id()?.to_owned(),
                })
            }));
        }
        Ok(all)
    }

    async fn table(&self, name: &str) -> Result<Option<Table>, InspectError> {
        let described = match self.dynamodb.describe_table().table_name(name).send().await {
            Ok(described) => described,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(failed("dynamodb:DescribeTable", &error)),
        };
        let Some(table) = described.table() else {
            return Ok(None);
        };
        let mut key: Vec<_> = table.key_schema().iter().collect();
        key.sort_by_key(|part| *part.key_type() != KeyType::Hash);
        Ok(Some(Table {
            active: matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating)),
            key: key.into_iter().map(|part| part.attribute_name().to_owned()).collect(),
            ttl: self.ttl(name).await?,
            backups: self.backups(name).await?,
            protected: table.deletion_protection_enabled().unwrap_or_default(),
        }))
    }

    async fn api_access(&self, api: &str) -> Result<Option<ApiAccess>, InspectError> {
        let Some(authorizers) = self.authorizers(api).await? else {
            return Ok(None);
        };
        Ok(Some(ApiAccess {
            authorizers,
            methods: self.methods(api).await?,
        }))
    }

    async fn status_without_token(&self, verb: &str, url: &str) -> Result<u16, InspectError> {
        let failed = |reason: String| InspectError {
            call: "a call of the API",
            reason,
        };
        // The SDK's own HTTP client, with the root certificates that it trusts.
        let connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build();
        let mut request = HttpRequest::empty();
        // Some firewalls refuse requests without it.
        request
            .headers_mut()
            .insert("user-agent", concat!("mfactl/", env!("CARGO_PKG_VERSION")));
        request.set_method(verb).map_err(|error| failed(error.to_string()))?;
        request.set_uri(url).map_err(|error| failed(error.to_string()))?;
        let response = tokio::time::timeout(API_TIMEOUT, connector.call(request)).await;
        let response = response.map_err(|_| failed(format!("no answer within {} s", API_TIMEOUT.as_secs())))?;
        let response = response.map_err(|error| failed(chain(&error)))?;
        Ok(response.status().as_u16())
    }

    async fn user_pool(&self, id: &str, server: &str) -> Result<Option<UserPool>, InspectError> {
        let described = match self.cognito.describe_user_pool().user_pool_id(id).send().await {
            Ok(described) => described,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(failed("cognito-idp:DescribeUserPool", &error)),
        };
        let pool = described.user_pool();
        let protection = pool.and_then(|pool| pool.deletion_protection());
        Ok(Some(UserPool {
            protected: protection == Some(&DeletionProtectionType::Active),
            scopes: self.scopes(id, server).await?,
        }))
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<Alarm>, InspectError> {
        let mut all = Vec::new();
        for names in names.chunks(ALARMS_PER_CALL) {
            let describe = self.cloudwatch.describe_alarms().set_alarm_names(Some(names.to_vec()));
            let described = describe.max_records(100).send().await;
            let described = described.map_err(|error| failed("cloudwatch:DescribeAlarms", &error))?;
            all.extend(described.metric_alarms().iter().map(|alarm| Alarm {
                name: alarm.alarm_name().unwrap_or_default().to_owned(),
                actions_enabled: alarm.actions_enabled().unwrap_or_default(),
                actions: alarm.alarm_actions().to_vec(),
                in_alarm: alarm.state_value() == Some(&StateValue::Alarm),
            }));
        }
        Ok(all)
    }

    fn clock_offset(&self) -> Option<ClockOffset> {
        self.clock.offset()
    }
}

#[cfg(test)]
mod tests;
