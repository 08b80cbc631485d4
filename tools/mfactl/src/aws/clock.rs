//! This machine's clock compared with AWS's, by the `Date` of its answers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_cloudformation::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_cloudformation::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudformation::error::BoxError;
use aws_sdk_cloudformation::primitives::{DateTime, DateTimeFormat};
use aws_sdk_dynamodb::types::AttributeValue;
use shared::clock::{Clock, Timestamp};
use shared::error::chain;

use crate::ports::stack::ClockOffset;

/// One answer by both clocks: when it was requested and received by this machine's, and its second by the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    sent: Timestamp,
    received: Timestamp,
    answered: Timestamp,
}

impl Sample {
    /// The answer was made at some moment of its second, between the request and the receipt.
    fn offset(self) -> ClockOffset {
        let (sent, received) = (self.sent.as_millis(), self.received.as_millis());
        let (first, last) = (self.answered.as_millis(), self.answered.as_millis() + 999);
        if first > received {
            ClockOffset::Behind(first - received)
        } else if sent > last {
            ClockOffset::Ahead(sent - last)
        } else {
            ClockOffset::Unmeasurable
        }
    }
}

/// Reads the clock's offset by the last answer.
#[derive(Debug, Clone, Default)]
pub(super) struct ClockReader(Arc<Mutex<Option<Sample>>>);

impl ClockReader {
    pub(super) fn offset(&self) -> Option<ClockOffset> {
        let sample = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sample.map(Sample::offset)
    }
}

/// Samples the clock with every answer, also with an error: AWS refuses every call if the clock is far off.
#[derive(Debug)]
pub(super) struct AnswerClock<C> {
    clock: C,
    sent_at: Mutex<Option<Timestamp>>,
    last: ClockReader,
}

impl<C: Clock> AnswerClock<C> {
    pub(super) fn new(clock: C) -> (Self, ClockReader) {
        let last = ClockReader::default();
        let interceptor = Self {
            clock,
            sent_at: Mutex::new(None),
            last: last.clone(),
        };
        (interceptor, last)
    }
}

impl<C: Clock + fmt::Debug> Intercept for AnswerClock<C> {
    fn name(&self) -> &'static str {
        "AnswerClock"
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
        let answered = date.as_ref().and_then(timestamp);
        if let Some((sent, answered)) = sent.zip(answered) {
            *self.last.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sample {
                sent,
                received,
                answered,
            });
        }
        Ok(())
    }
}

/// This machine's clock compared with the store's, by the `Date` of one answer. An error is an answer too, so this needs no
/// rights.
///
/// # Errors
/// Why there was no answer.
pub async fn store_clock_offset(
    dynamodb: &aws_sdk_dynamodb::Client,
    table: String,
    clock: impl Clock + fmt::Debug + 'static,
) -> Result<ClockOffset, String> {
    let (answer_clock, reader) = AnswerClock::new(clock);
    let config = dynamodb.config().to_builder().interceptor(answer_clock).build();
    let devices = aws_sdk_dynamodb::Client::from_conf(config);
    // Of a device that does not exist.
    let nothing = || AttributeValue::S("-".to_owned());
    let get = devices
        .get_item()
        .table_name(table)
        .key("pk", nothing())
        .key("sk", nothing());
    let answer = get.send().await;
    reader.offset().ok_or_else(|| match answer {
        Ok(_) => "its answer has no date".to_owned(),
        Err(error) => chain(&error),
    })
}

pub(super) fn timestamp(date: &DateTime) -> Option<Timestamp> {
    u64::try_from(date.secs()).ok().map(Timestamp::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_an_answer_cannot_explain() {
        let at = Timestamp::from_millis;
        for (sent, received, answered, expected) in [
            (10_000, 10_200, 10_000, ClockOffset::Unmeasurable),
            // Its second began before the request, and ends after it.
            (10_900, 11_100, 10_000, ClockOffset::Unmeasurable),
            (10_999, 30_000, 10_000, ClockOffset::Unmeasurable),
            (11_000, 11_100, 10_000, ClockOffset::Ahead(1)),
            (72_999, 73_100, 10_000, ClockOffset::Ahead(62_000)),
            (9_000, 9_999, 10_000, ClockOffset::Behind(1)),
            (9_000, 9_100, 60_000, ClockOffset::Behind(50_900)),
        ] {
            let sample = Sample {
                sent: at(sent),
                received: at(received),
                answered: at(answered),
            };
            assert_eq!(sample.offset(), expected, "{sample:?}");
        }
    }

    #[tokio::test]
    async fn the_date_of_the_stores_answer_is_its_clock() -> Result<(), Box<dyn std::error::Error>> {
        use aws_smithy_mocks::{RuleMode, mock, mock_client};
        use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
        use aws_smithy_runtime_api::http::StatusCode;

        let now = Timestamp::from_secs(1_795_662_000);
        // Refused calls have a date too.
        for (status, date, expected) in [
            (
                200,
                "Wed, 25 Nov 2026 03:00:00 GMT",
                Some(ClockOffset::Ahead(86_399_001)),
            ),
            (
                400,
                "Fri, 27 Nov 2026 03:00:00 GMT",
                Some(ClockOffset::Behind(86_400_000)),
            ),
            (200, "Thu, 26 Nov 2026 03:00:00 GMT", Some(ClockOffset::Unmeasurable)),
            (200, "", None),
        ] {
            let status = StatusCode::try_from(status)?;
            let rule = mock!(aws_sdk_dynamodb::Client::get_item).then_http_response(move || {
                let mut response = HttpResponse::new(status, "{}".into());
                response.headers_mut().insert("date", date);
                response
            });
            let dynamodb = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, &[&rule]);
            let clock = std::sync::Arc::new(shared::testing::clock::ManualClock::at(now));
            let offset = store_clock_offset(&dynamodb, "Devices".to_owned(), clock).await;
            assert_eq!(offset.ok(), expected, "{date}");
        }
        Ok(())
    }
}
