//! [`Inspector`] over AWS's own read calls.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_apigateway::types::AuthorizerType;
use aws_sdk_cloudformation::config::http::HttpRequest;
use aws_sdk_cloudformation::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_cloudformation::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudformation::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_cloudformation::primitives::{DateTime, DateTimeFormat};
use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_cognitoidentityprovider::types::{DeletionProtectionType, ResourceServerType};
use aws_sdk_dynamodb::types::{KeyType, PointInTimeRecoveryStatus, TableStatus, TimeToLiveStatus};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use shared::aws::sdk::SdkConfig;
use shared::clock::{Clock, Timestamp};
use shared::error::chain;

use crate::deployed::{
    AccessFound, AlarmFound, AuthorizerFound, ClockFound, DeployedStack, InspectError, Inspector, MethodFound,
    PoolFound, Resource, TableFound,
};

/// The most that `CloudWatch` describes at once.
const ALARMS: usize = 100;
/// The most that API Gateway lists at once.
const PAGE: i32 = 500;
/// How long the API may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoints of a stack on this machine.
#[derive(Debug, Clone, Copy)]
pub struct LocalEndpoints<'a> {
    /// Of `CloudFormation` and API Gateway.
    pub control_plane: &'a str,
    /// Of `DynamoDB`.
    pub dynamodb: &'a str,
    /// Of Cognito.
    pub cognito: &'a str,
}

/// A deployed stack, as AWS describes it.
#[derive(Debug)]
pub struct AwsInspector {
    cloudformation: aws_sdk_cloudformation::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    apigateway: aws_sdk_apigateway::Client,
    cognito: aws_sdk_cognitoidentityprovider::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    clock: Arc<Mutex<Option<Seen>>>,
    local: bool,
}

impl AwsInspector {
    /// With what clients are made of, and the clock of this machine. Endpoints are given for a local stack.
    #[must_use]
    pub fn new(
        shared: &SdkConfig,
        clock: impl Clock + fmt::Debug + 'static,
        local: Option<LocalEndpoints<'_>>,
    ) -> Self {
        let seen = Arc::new(Mutex::new(None));
        let watch = WatchClock {
            clock,
            sent_at: Mutex::new(None),
            seen: Arc::clone(&seen),
        };
        let mut cloudformation = aws_sdk_cloudformation::config::Builder::from(shared).interceptor(watch);
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(shared);
        let mut apigateway = aws_sdk_apigateway::config::Builder::from(shared);
        let mut cognito = aws_sdk_cognitoidentityprovider::config::Builder::from(shared);
        if let Some(local) = local {
            cloudformation = cloudformation.endpoint_url(local.control_plane);
            dynamodb = dynamodb.endpoint_url(local.dynamodb);
            apigateway = apigateway.endpoint_url(local.control_plane);
            cognito = cognito.endpoint_url(local.cognito);
        }
        Self {
            cloudformation: aws_sdk_cloudformation::Client::from_conf(cloudformation.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            apigateway: aws_sdk_apigateway::Client::from_conf(apigateway.build()),
            cognito: aws_sdk_cognitoidentityprovider::Client::from_conf(cognito.build()),
            cloudwatch: aws_sdk_cloudwatch::Client::new(shared),
            clock: seen,
            local: local.is_some(),
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
            // A store on one machine.
            Err(error) if error.code() == Some("UnknownOperationException") => return Ok(None),
            Err(error) => return Err(failed("dynamodb:DescribeContinuousBackups", &error)),
        };
        let backups = described.continuous_backups_description();
        let to_a_point = backups.and_then(|backups| backups.point_in_time_recovery_description());
        let status = to_a_point.and_then(|description| description.point_in_time_recovery_status());
        Ok(Some(status == Some(&PointInTimeRecoveryStatus::Enabled)))
    }

    async fn authorizers(&self, api: &str) -> Result<Option<Vec<AuthorizerFound>>, InspectError> {
        let (mut all, mut position) = (Vec::new(), None);
        loop {
            let get = self.apigateway.get_authorizers().rest_api_id(api).limit(PAGE);
            let page = match get.set_position(position).send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("NotFoundException") => return Ok(None),
                Err(error) => return Err(failed("apigateway:GET /restapis/*/authorizers", &error)),
            };
            all.extend(page.items().iter().map(|authorizer| AuthorizerFound {
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

    async fn methods(&self, api: &str) -> Result<Vec<MethodFound>, InspectError> {
        let get = self.apigateway.get_resources().rest_api_id(api).embed("methods");
        let mut pages = get.limit(PAGE).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("apigateway:GET /restapis/*/resources", &error))?;
            for resource in page.items() {
                let methods = resource.resource_methods().into_iter().flatten();
                all.extend(methods.map(|(verb, method)| MethodFound {
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

fn time(date: &DateTime) -> Option<Timestamp> {
    u64::try_from(date.secs()).ok().map(Timestamp::from_secs)
}

/// The call failed, for another reason than that what was asked for is not there.
fn failed<E, R>(call: &'static str, error: &SdkError<E, R>) -> InspectError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    // A service's text may quote what was asked for; its code says enough.
    let said = error.code().map_or_else(|| chain(error), str::to_owned);
    InspectError { call, said }
}

impl Inspector for AwsInspector {
    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, InspectError> {
        let described = match self.cloudformation.describe_stacks().stack_name(name).send().await {
            Ok(described) => described,
            // There is no code of its own for it.
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
            created_at: stack.creation_time().filter(|_| !self.local).and_then(time),
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
            // One that could not be created has no name yet.
            all.extend(page.stack_resource_summaries().iter().filter_map(|resource| {
                Some(Resource {
                    logical: resource.logical_resource_id()?.to_owned(),
                    physical: resource.physical_resource_id()?.to_owned(),
                })
            }));
        }
        Ok(all)
    }

    async fn table(&self, name: &str) -> Result<Option<TableFound>, InspectError> {
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
        Ok(Some(TableFound {
            active: matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating)),
            key: key.into_iter().map(|part| part.attribute_name().to_owned()).collect(),
            ttl: self.ttl(name).await?,
            backups: self.backups(name).await?,
            protected: table.deletion_protection_enabled().unwrap_or_default(),
        }))
    }

    async fn access(&self, api: &str) -> Result<Option<AccessFound>, InspectError> {
        let Some(authorizers) = self.authorizers(api).await? else {
            return Ok(None);
        };
        Ok(Some(AccessFound {
            authorizers,
            methods: self.methods(api).await?,
        }))
    }

    async fn status_without_token(&self, url: &str) -> Result<u16, InspectError> {
        let failed = |said: String| InspectError {
            call: "a call of the API",
            said,
        };
        // The SDK's own client, with the root certificates that it trusts.
        let proxy = if self.local {
            // It is on this machine, whatever proxies the environment names.
            ProxyConfig::disabled()
        } else {
            ProxyConfig::from_env()
        };
        let connector = Connector::builder()
            .proxy_config(proxy)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build();
        let mut request = HttpRequest::empty();
        // Firewalls refuse what does not say who it is.
        request
            .headers_mut()
            .insert("user-agent", concat!("mfactl/", env!("CARGO_PKG_VERSION")));
        request.set_method("POST").map_err(|error| failed(error.to_string()))?;
        request.set_uri(url).map_err(|error| failed(error.to_string()))?;
        let response = tokio::time::timeout(PATIENCE, connector.call(request)).await;
        let response = response.map_err(|_| failed(format!("no answer within {} s", PATIENCE.as_secs())))?;
        let response = response.map_err(|error| failed(chain(&error)))?;
        Ok(response.status().as_u16())
    }

    async fn pool(&self, id: &str, server: &str) -> Result<Option<PoolFound>, InspectError> {
        let described = match self.cognito.describe_user_pool().user_pool_id(id).send().await {
            Ok(described) => described,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(failed("cognito-idp:DescribeUserPool", &error)),
        };
        let pool = described.user_pool();
        let protection = pool.and_then(|pool| pool.deletion_protection());
        Ok(Some(PoolFound {
            protected: protection == Some(&DeletionProtectionType::Active),
            scopes: self.scopes(id, server).await?,
        }))
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmFound>, InspectError> {
        let mut all = Vec::new();
        for names in names.chunks(ALARMS) {
            let describe = self.cloudwatch.describe_alarms().set_alarm_names(Some(names.to_vec()));
            let described = describe.max_records(100).send().await;
            let described = described.map_err(|error| failed("cloudwatch:DescribeAlarms", &error))?;
            all.extend(described.metric_alarms().iter().map(|alarm| AlarmFound {
                name: alarm.alarm_name().unwrap_or_default().to_owned(),
                actions_enabled: alarm.actions_enabled().unwrap_or_default(),
                actions: alarm.alarm_actions().to_vec(),
                rings: alarm.state_value() == Some(&StateValue::Alarm),
            }));
        }
        Ok(all)
    }

    fn clock(&self) -> Option<ClockFound> {
        let seen = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(Seen::clock)
    }
}

/// What an answer shows of two clocks: when it was asked for and received by this machine's, and its second by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    sent: Timestamp,
    received: Timestamp,
    answered: Timestamp,
}

impl Seen {
    /// The answer was made in some moment of its second, and that was between the two others.
    fn clock(self) -> ClockFound {
        let (sent, received) = (self.sent.as_millis(), self.received.as_millis());
        let (first, last) = (self.answered.as_millis(), self.answered.as_millis() + 999);
        if first > received {
            ClockFound::Behind(first - received)
        } else if sent > last {
            ClockFound::Ahead(sent - last)
        } else {
            ClockFound::Right
        }
    }
}

/// Reads the other clock from the `Date` of every answer, of refusals too: a clock that is far off is refused.
#[derive(Debug)]
struct WatchClock<C> {
    clock: C,
    sent_at: Mutex<Option<Timestamp>>,
    seen: Arc<Mutex<Option<Seen>>>,
}

impl<C: Clock + fmt::Debug> Intercept for WatchClock<C> {
    fn name(&self) -> &'static str {
        "WatchClock"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.sent_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let received = self.clock.now();
        let sent = *self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let answered = date.as_ref().and_then(time);
        if let Some((sent, answered)) = sent.zip(answered) {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen {
                sent,
                received,
                answered,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_an_answer_cannot_explain() {
        let at = Timestamp::from_millis;
        for (sent, received, answered, expected) in [
            (10_000, 10_200, 10_000, ClockFound::Right),
            // Its second began before it was asked for, and ends after.
            (10_900, 11_100, 10_000, ClockFound::Right),
            (10_999, 30_000, 10_000, ClockFound::Right),
            (11_000, 11_100, 10_000, ClockFound::Ahead(1)),
            (72_999, 73_100, 10_000, ClockFound::Ahead(62_000)),
            (9_000, 9_999, 10_000, ClockFound::Behind(1)),
            (9_000, 9_100, 60_000, ClockFound::Behind(50_900)),
        ] {
            let seen = Seen {
                sent: at(sent),
                received: at(received),
                answered: at(answered),
            };
            assert_eq!(seen.clock(), expected, "{seen:?}");
        }
    }
}
